// Command desk-mcp is a small real MCP server (streamable HTTP) over a shop's orders and tickets. It is the tool server of the support-desk
// example. What it changes is in memory and gone when it ends.
package main

import (
	"os"

	"github.com/agentry/agentry/examples/internal/toolserver"
)

func main() {
	os.Exit(toolserver.Main(toolserver.Program{Name: "desk-mcp", Listen: "127.0.0.1:7791", What: "the sample shop", Tools: newDesk().tools}))
}
