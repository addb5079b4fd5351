package main

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
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// run serves until ctx ends and answers the exit code.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	fs := flag.NewFlagSet("nacos-mcp", flag.ContinueOnError)
	fs.SetOutput(stderr)
	listen := fs.String("listen", "127.0.0.1:7790", "address to serve MCP on, at /mcp")
	calls := fs.String("calls", "", "append every tool call to this file, one JSON object a line")
	if err := fs.Parse(args); err != nil {
		return 64
	}
	if err := serve(ctx, *listen, *calls, stderr); err != nil {
		fmt.Fprintf(stderr, "nacos-mcp: %v\n", err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, listen, callsPath string, stderr io.Writer) error {
	data, err := loadSample()
	if err != nil {
		return err
	}
	log := &callLog{}
	if callsPath != "" {
		f, err := os.OpenFile(callsPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the user names the file
		if err != nil {
			return fmt.Errorf("call log: %w", err)
		}
		defer func() { _ = f.Close() }()
		log.w = f
	}
	mcpServer := newServer(data, log)
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", server.NewStreamableHTTPServer(mcpServer))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(stderr, "nacos-mcp: serving the sample Nacos configuration at http://%s/mcp\n", ln.Addr())

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

func newServer(data sample, log *callLog) *server.MCPServer {
	s := server.NewMCPServer("nacos-mcp", "1.0.0", server.WithToolCapabilities(true), server.WithRecovery())
	namespace := mcp.WithString("namespace", mcp.Description("Nacos namespace, default public"))
	add := func(tool mcp.Tool, answer func(mcp.CallToolRequest) (any, error)) {
		s.AddTool(tool, func(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			log.record(tool.Name, r.GetArguments())
			v, err := answer(r)
			if err != nil {
				return mcp.NewToolResultError(err.Error()), nil
			}
			text, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			return mcp.NewToolResultText(string(text)), nil
		})
	}
	add(mcp.NewTool("list_configs", mcp.WithDescription("Lists the configs (dataId, group, type) of a namespace."), namespace),
		func(r mcp.CallToolRequest) (any, error) {
			return data.configsIn(r.GetString("namespace", "public")), nil
		})
	add(mcp.NewTool("get_config", mcp.WithDescription("Reads one config's content by dataId and group."),
		mcp.WithString("dataId", mcp.Required(), mcp.Description("such as gateway.yaml")),
		mcp.WithString("group", mcp.Description("default DEFAULT_GROUP")), namespace),
		func(r mcp.CallToolRequest) (any, error) {
			id, err := r.RequireString("dataId")
			if err != nil {
				return nil, err
			}
			ns, group := r.GetString("namespace", "public"), r.GetString("group", "DEFAULT_GROUP")
			c, ok := data.config(ns, group, id)
			if !ok {
				return nil, fmt.Errorf("no config %s in group %s of namespace %s; list_configs shows what there is", id, group, ns)
			}
			return c, nil
		})
	add(mcp.NewTool("list_services", mcp.WithDescription("Lists the names of the services registered in a namespace."), namespace),
		func(r mcp.CallToolRequest) (any, error) {
			return data.servicesIn(r.GetString("namespace", "public")), nil
		})
	add(mcp.NewTool("get_service", mcp.WithDescription("Shows one service's instances and their health."),
		mcp.WithString("name", mcp.Required()), namespace),
		func(r mcp.CallToolRequest) (any, error) {
			name, err := r.RequireString("name")
			if err != nil {
				return nil, err
			}
			v, ok := data.service(r.GetString("namespace", "public"), name)
			if !ok {
				return nil, errors.New("no service " + name)
			}
			return v, nil
		})
	return s
}
