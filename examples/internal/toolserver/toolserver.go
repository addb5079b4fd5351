// Package toolserver runs a small real MCP server (streamable HTTP) as a program: the tool servers of the examples are made with it.
package toolserver

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// Program is one server.
type Program struct {
	Name   string
	Listen string // where it serves unless --listen says otherwise; at /mcp
	What   string // it serves, for the line that it prints
	// Tools adds the tools, once, at the start.
	Tools func(add Add) error
}

// Add adds a tool. What answer gives is shown as it is if it is a string, else as JSON; its error is the tool's, for the model to read.
type Add func(tool mcp.Tool, answer func(mcp.CallToolRequest) (any, error))

// Main serves by the process's arguments until it is told to stop, and answers the exit code.
func Main(p Program) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return p.run(ctx, os.Args[1:], os.Stderr)
}

// run serves until ctx ends and answers the exit code.
func (p Program) run(ctx context.Context, args []string, stderr io.Writer) int {
	fs := flag.NewFlagSet(p.Name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	listen := fs.String("listen", p.Listen, "address to serve MCP on, at /mcp")
	calls := fs.String("calls", "", "append every tool call to this file, one JSON object a line")
	if err := fs.Parse(args); err != nil {
		return 64
	}
	if err := p.serve(ctx, *listen, *calls, stderr); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return 1
	}
	return 0
}

func (p Program) serve(ctx context.Context, listen, callsPath string, stderr io.Writer) error {
	log := &callLog{}
	if callsPath != "" {
		f, err := os.OpenFile(callsPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the user names the file
		if err != nil {
			return fmt.Errorf("call log: %w", err)
		}
		defer func() { _ = f.Close() }()
		log.w = f
	}
	tools, err := p.server(log)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", server.NewStreamableHTTPServer(tools))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(stderr, "%s: serving %s at http://%s/mcp\n", p.Name, p.What, ln.Addr())

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

func (p Program) server(log *callLog) (*server.MCPServer, error) {
	s := server.NewMCPServer(p.Name, "1.0.0", server.WithToolCapabilities(true), server.WithRecovery())
	return s, p.Tools(func(tool mcp.Tool, answer func(mcp.CallToolRequest) (any, error)) {
		s.AddTool(tool, func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			log.record(tool.Name, r.GetArguments())
			v, err := answer(r)
			if err != nil {
				return mcp.NewToolResultError(err.Error()), nil
			}
			if text, ok := v.(string); ok {
				return mcp.NewToolResultText(text), nil
			}
			text, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			return mcp.NewToolResultText(string(text)), nil
		})
	})
}
