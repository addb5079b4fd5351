// Command agentd runs one agent as the control plane says.
package main

import (
	"os"

	"github.com/agentry/agentry/agentd/app"
)

func main() {
	os.Exit(app.Main(os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}
