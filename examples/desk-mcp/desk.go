package main

import (
	"fmt"
	"strings"
	"sync"
)

// desk is the shop's books. Its methods may be called from many goroutines.
type desk struct {
	mu      sync.Mutex // guards all
	orders  map[string]*order
	tickets []string
}

// order is one sale; amounts are in cents.
type order struct {
	what           string
	paid, refunded int64
}

func newDesk() *desk {
	return &desk{orders: map[string]*order{
		"A-1001": {what: "a kettle", paid: 12000},
		"A-1002": {what: "two lamps", paid: 8950},
		"A-1003": {what: "a chair", paid: 24900},
	}}
}

func (d *desk) order(id string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, ok := d.orders[id]
	if !ok {
		return "", fmt.Errorf("there is no order %s", id)
	}
	return fmt.Sprintf("Order %s: %s, paid %s, refunded %s.", id, o.what, money(o.paid), money(o.refunded)), nil
}

// refund pays back what isn't paid back yet, and no more.
func (d *desk) refund(id string, amount int64) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, ok := d.orders[id]
	switch {
	case !ok:
		return "", fmt.Errorf("there is no order %s", id)
	case amount <= 0:
		return "", fmt.Errorf("%s can't be refunded", money(amount))
	case amount > o.paid-o.refunded:
		return "", fmt.Errorf("only %s of order %s are left to refund", money(o.paid-o.refunded), id)
	}
	o.refunded += amount
	return fmt.Sprintf("Refunded %s of order %s; %s are left.", money(amount), id, money(o.paid-o.refunded)), nil
}

func (d *desk) openTicket(subject string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tickets = append(d.tickets, subject)
	return fmt.Sprintf("Ticket T-%d is open: %s", len(d.tickets), subject)
}

func (d *desk) listTickets() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.tickets) == 0 {
		return "No ticket is open."
	}
	var b strings.Builder
	for i, s := range d.tickets {
		fmt.Fprintf(&b, "T-%d: %s\n", i+1, s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func money(cents int64) string { return fmt.Sprintf("%d.%02d euros", cents/100, cents%100) }
