package main

import "testing"

// A customer never gets back more than was paid.
func TestRefund(t *testing.T) {
	d := newDesk()
	for _, step := range []struct {
		order  string
		cents  int64
		ok     bool
		answer string
	}{
		{"A-1001", 3000, true, "Refunded 30.00 euros of order A-1001; 90.00 euros are left."},
		{"A-1001", 9001, false, "only 90.00 euros of order A-1001 are left to refund"},
		{"A-1001", 0, false, "0.00 euros can't be refunded"},
		{"A-9", 1, false, "there is no order A-9"},
		{"A-1001", 9000, true, "Refunded 90.00 euros of order A-1001; 0.00 euros are left."},
	} {
		got, err := d.refund(step.order, step.cents)
		if err != nil {
			got = err.Error()
		}
		if got != step.answer || (err == nil) != step.ok {
			t.Errorf("%s %d: %q", step.order, step.cents, got)
		}
	}
	if got, err := d.order("A-1001"); err != nil || got != "Order A-1001: a kettle, paid 120.00 euros, refunded 120.00 euros." {
		t.Errorf("%q %v", got, err)
	}
}
