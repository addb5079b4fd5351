// Command nacos-mcp is a small real MCP server (streamable HTTP) over a sample Nacos configuration. It is the tool server of
// the nacos-helper example and reads nothing but its embedded sample.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}
