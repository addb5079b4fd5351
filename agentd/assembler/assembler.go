// Package assembler makes a config live: it builds everything a request needs beside the running set, probes it, commits it,
// swaps one pointer and drains the old set (semantics.md 5, 6, 9, 10). configclient hands it updates, run takes Runtimes from it.
// It never speaks to the control plane and knows no adapter: app plugs them in by the factories.
package assembler
