// Command desk-mcp is a small real MCP server (streamable HTTP) over a shop's orders and tickets. It is the tool server of the support-desk
// example. What it changes is in memory and gone when it ends.
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
