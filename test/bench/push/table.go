package main

import (
	"fmt"
	"io"
	"slices"
)

// table prints what a person compares.
func table(out io.Writer, o options, content int, results []result) {
	fmt.Fprintf(out, "%d instances of %d agents, %d rounds, content of %d bytes\n", o.n, o.agents, o.rounds, content)
	fmt.Fprintf(out, "%-34s", "")
	for _, r := range results {
		fmt.Fprintf(out, " %18s", r.Name)
	}
	for _, r := range results[1:] {
		fmt.Fprintf(out, " %20s", "/ "+r.Name)
	}
	fmt.Fprintln(out)
	row := func(name string, f func(result) float64) {
		fmt.Fprintf(out, "%-34s", name)
		for _, r := range results {
			fmt.Fprintf(out, " %18.2f", f(r))
		}
		for _, r := range results[1:] {
			if f(r) == 0 {
				fmt.Fprintf(out, " %20s", "-")
				continue
			}
			fmt.Fprintf(out, " %20.2f", f(results[0])/f(r))
		}
		fmt.Fprintln(out)
	}
	row("last ACK, ms (from write call)", func(r result) float64 { return r.LastACK })
	row("last ACK, ms (from write's answer)", func(r result) float64 { return r.LastACK - r.write })
	row("ACK p50, ms", func(r result) float64 { return r.P50 })
	row("ACK p99, ms", func(r result) float64 { return r.P99 })
	row("server CPU, us/instance", func(r result) float64 { return r.CPU })
	row("clients CPU, us/instance", func(r result) float64 { return r.clientCPU })
	row("server RSS, KB/instance", func(r result) float64 { return r.RSS })
	row("  live heap, KB/instance", func(r result) float64 { return r.live })
	row("  stacks, KB/instance", func(r result) float64 { return r.stacks })
	row("single change p50, ms", func(r result) float64 { return r.Single })
	row("  of that the write, ms", func(r result) float64 { return r.singleWrite })
	row("reconnect of all, content bytes", func(r result) float64 { return float64(r.ResumeBytes) })
	row("reconnect of all, resumed, ms", func(r result) float64 { return r.Reconnect })
	row("  server CPU, us/instance", func(r result) float64 { return r.ReconnectCPU })
	row("reconnect, full handshakes, ms", func(r result) float64 { return r.Anew })
	row("  server CPU, us/instance", func(r result) float64 { return r.AnewCPU })
	row("refused version, times sent", func(r result) float64 { return float64(r.RefusedSent) })
	for _, r := range results {
		fmt.Fprintf(out, "%s: last ACK of the rounds %.0f to %.0f ms\n", r.Name, slices.Min(r.rounds), slices.Max(r.rounds))
	}
}
