// Package command is the tree of agentctl's commands, one file for each noun or verb. Only agentctl's main and tests
// call it. It is a client of the public API like any other: it reads files, asks the server and prints; it never
// touches the store, and it keeps no state but the context file.
package command

import (
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Env is the process as the commands see it: main hands in the real one, tests their own.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	// Now is the clock of relative times; nil: time.Now.
	Now func() time.Time
}

// cli is what every command shares: the process and the flags of the root.
type cli struct {
	env   Env
	flags globalFlags
}

// globalFlags are accepted by every command.
type globalFlags struct {
	server    string
	tokenFile string
	caFile    string
	context   string
	namespace string
	noHeaders bool
	noColor   bool
	quiet     bool
}

func (c *cli) now() time.Time {
	if c.env.Now != nil {
		return c.env.Now()
	}
	return time.Now()
}

// isTTY reports whether stream is a terminal.
func isTTY(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colour reports whether to colour what goes to w.
func (c *cli) colour(w io.Writer) bool {
	return !c.flags.noColor && c.env.Getenv("NO_COLOR") == "" && isTTY(w)
}
