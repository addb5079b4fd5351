// Command demo shows the main job end to end with real processes and an embedded etcd, and judges each step by what the scripted
// model server and the MCP server saw. It prints one line per step, "ok <step-id> <ms> <sentence>", and ends by itself: 0, or 1 at
// the first failure.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "folder of the binaries")
	keep := flag.Bool("keep", false, "keep the folder with data and logs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	err := run(ctx, *bin, *keep, os.Stdout)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}
