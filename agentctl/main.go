// Command agentctl is the command line of agentry. All it does is in package command.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/agentry/agentry/agentctl/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, command.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}, os.Args[1:])
	stop()
	os.Exit(code)
}
