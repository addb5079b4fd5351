package harness

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// Variables by which a suite has every Env watched: where findings are written, and the level of the processes' logs.
const (
	LeaksVar    = "AGENTRY_TEST_LEAKS"
	LogLevelVar = "AGENTRY_TEST_LOG_LEVEL"
)

// secretShape is what the product's own secrets look like: API tokens and sessions, join tokens, bootstrap tokens, private keys.
var secretShape = regexp.MustCompile(`ag[tjb]_[0-9A-Za-z_-]{20,}|PRIVATE KEY`)

// Leaks gives the lines of a log that hold a secret of the product's own, cut off before it.
func Leaks(log []byte) []string {
	marks := [][]byte{[]byte("agt_"), []byte("agj_"), []byte("agb_"), []byte("PRIVATE KEY")} // a line without one needs no expression
	var out []string
	for line := range bytes.Lines(log) {
		if !slices.ContainsFunc(marks, func(mark []byte) bool { return bytes.Contains(line, mark) }) {
			continue
		}
		if at := secretShape.FindIndex(line); at != nil {
			out = append(out, fmt.Sprintf("%s<%s...>", line[:at[0]], line[at[0]:at[0]+4]))
		}
	}
	return out
}

// findLeaks searches the logs of an Env's processes, and adds what it finds to the LeaksFile.
func (e *Env) findLeaks() error {
	if e.LeaksFile == "" {
		return nil
	}
	logs, err := filepath.Glob(filepath.Join(e.Dir, "*.log"))
	if err != nil {
		return err
	}
	var found bytes.Buffer
	for _, log := range logs {
		b, err := os.ReadFile(filepath.Clean(log))
		if err != nil {
			return err
		}
		for _, leak := range Leaks(b) {
			_, _ = fmt.Fprintf(&found, "%s: %s\n", log, leak)
		}
	}
	if found.Len() == 0 {
		return nil
	}
	f, err := os.OpenFile(e.LeaksFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(found.Bytes())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
