package main

import (
	"errors"
	"math"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/agentry/agentry/examples/internal/toolserver"
)

// tools are what the desk can do for the model.
func (d *desk) tools(add toolserver.Add) error {
	order := mcp.WithString("order", mcp.Required(), mcp.Description("the order's number, such as A-1001"))
	add(mcp.NewTool("get_order", mcp.WithDescription("Shows an order: what was bought, paid and refunded."), order),
		func(r mcp.CallToolRequest) (any, error) {
			id, err := r.RequireString("order")
			if err != nil {
				return nil, err
			}
			return d.order(id)
		})
	add(mcp.NewTool("refund", mcp.WithDescription("Pays money back to the customer. It can't be undone."), order,
		mcp.WithNumber("amount", mcp.Required(), mcp.Description("in euros"))),
		func(r mcp.CallToolRequest) (any, error) {
			id, err := r.RequireString("order")
			if err != nil {
				return nil, err
			}
			amount, err := r.RequireFloat("amount")
			if err != nil {
				return nil, err
			}
			if math.IsNaN(amount) || math.Abs(amount) > 1e9 {
				return nil, errors.New("that amount can't be refunded")
			}
			return d.refund(id, int64(math.Round(amount*100)))
		})
	add(mcp.NewTool("open_ticket", mcp.WithDescription("Opens a ticket for a person of the desk."),
		mcp.WithString("subject", mcp.Required(), mcp.Description("what it is about, one line"))),
		func(r mcp.CallToolRequest) (any, error) {
			subject, err := r.RequireString("subject")
			if err != nil {
				return nil, err
			}
			return d.openTicket(subject), nil
		})
	add(mcp.NewTool("list_tickets", mcp.WithDescription("Lists the open tickets.")),
		func(mcp.CallToolRequest) (any, error) { return d.listTickets(), nil })
	return nil
}
