// Command controlplane keeps agent specs and streams them to instances of agentd.
package main

import (
	"os"

	"github.com/agentry/agentry/controlplane/app"
)

func main() {
	os.Exit(app.Main(os.Args[1:], app.Env, os.Stdout, os.Stderr))
}
