package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// run serves until ctx ends and answers the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	fs := flag.NewFlagSet("desk-mcp", flag.ContinueOnError)
	fs.SetOutput(stderr)
	listen := fs.String("listen", "127.0.0.1:7791", "address to serve MCP on, at /mcp")
	calls := fs.String("calls", "", "append every tool call to this file, one JSON object a line")
	if err := fs.Parse(args); err != nil {
		return 64
	}
	if err := serve(ctx, *listen, *calls, stderr); err != nil {
		fmt.Fprintf(stderr, "desk-mcp: %v\n", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, listen, callsPath string, stderr io.Writer) error {
	log := &callLog{}
	if callsPath != "" {
		f, err := os.OpenFile(callsPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the user names the file
		if err != nil {
			return fmt.Errorf("call log: %w", err)
		}
		defer func() { _ = f.Close() }()
		log.w = f
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", server.NewStreamableHTTPServer(newServer(newDesk(), log)))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(stderr, "desk-mcp: serving the sample shop at http://%s/mcp\n", ln.Addr())

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if srv.Shutdown(closing) != nil {
			_ = srv.Close() // listening streams stay open for as long as the client likes
		}
	}()
	err = srv.Serve(ln)
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	return nil
}

// callLog writes one line a tool call, so that a reader can see what the agent really asked.
type callLog struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (l *callLog) record(tool string, args map[string]any) {
	if l.w == nil {
		return
	}
	line, err := json.Marshal(map[string]any{"time": time.Now().UTC().Format(time.RFC3339Nano), "tool": tool, "arguments": args})
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(append(line, '\n'))
}

func newServer(d *desk, log *callLog) *server.MCPServer {
	s := server.NewMCPServer("desk-mcp", "1.0.0", server.WithToolCapabilities(true), server.WithRecovery())
	add := func(tool mcp.Tool, answer func(mcp.CallToolRequest) (string, error)) {
		s.AddTool(tool, func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			log.record(tool.Name, r.GetArguments())
			text, err := answer(r)
			if err != nil {
				return mcp.NewToolResultError(err.Error()), nil
			}
			return mcp.NewToolResultText(text), nil
		})
	}
	order := mcp.WithString("order", mcp.Required(), mcp.Description("the order's number, such as A-1001"))
	add(mcp.NewTool("get_order", mcp.WithDescription("Shows an order: what was bought, paid and refunded."), order),
		func(r mcp.CallToolRequest) (string, error) {
			id, err := r.RequireString("order")
			if err != nil {
				return "", err
			}
			return d.order(id)
		})
	add(mcp.NewTool("refund", mcp.WithDescription("Pays money back to the customer. It can't be undone."), order,
		mcp.WithNumber("amount", mcp.Required(), mcp.Description("in euros"))),
		func(r mcp.CallToolRequest) (string, error) {
			id, err := r.RequireString("order")
			if err != nil {
				return "", err
			}
			amount, err := r.RequireFloat("amount")
			if err != nil {
				return "", err
			}
			if math.IsNaN(amount) || math.Abs(amount) > 1e9 {
				return "", errors.New("that amount can't be refunded")
			}
			return d.refund(id, int64(math.Round(amount*100)))
		})
	add(mcp.NewTool("open_ticket", mcp.WithDescription("Opens a ticket for a person of the desk."),
		mcp.WithString("subject", mcp.Required(), mcp.Description("what it is about, one line"))),
		func(r mcp.CallToolRequest) (string, error) {
			subject, err := r.RequireString("subject")
			if err != nil {
				return "", err
			}
			return d.openTicket(subject), nil
		})
	add(mcp.NewTool("list_tickets", mcp.WithDescription("Lists the open tickets.")),
		func(mcp.CallToolRequest) (string, error) { return d.listTickets(), nil })
	return s
}
