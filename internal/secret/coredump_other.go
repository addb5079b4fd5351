//go:build !unix

package secret

// NoCoreDumps does nothing where there is no such limit.
func NoCoreDumps() error { return nil }
