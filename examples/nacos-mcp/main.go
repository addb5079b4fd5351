// Command nacos-mcp is a small real MCP server (streamable HTTP) over a sample Nacos configuration. It is the tool server of
// the nacos-helper example and reads nothing but its embedded sample.
package main

import (
	"os"

	"github.com/agentry/agentry/examples/internal/toolserver"
)

func main() {
	os.Exit(toolserver.Main(toolserver.Program{Name: "nacos-mcp", Listen: "127.0.0.1:7790", What: "the sample Nacos configuration", Tools: tools}))
}
