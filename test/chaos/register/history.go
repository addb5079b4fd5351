// Package register treats objects of the control plane's API as compare-and-swap registers: clients write them with a revision to
// check and read them linearizably through any replica, and what they saw is checked by porcupine.
package register

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// Kind is what an operation does.
type Kind string

// The kinds of operations.
const (
	Read Kind = "read"
	CAS  Kind = "cas"
)

// Outcome is how an operation ended.
type Outcome string

// The outcomes. Unknown: it may have been carried out, or will be.
const (
	OK      Outcome = "ok"
	Stale   Outcome = "stale" // the check failed: the object was at another version
	Unknown Outcome = "unknown"
)

// Op is one operation on one register, as its client saw it. Times are since the history began.
type Op struct {
	Key    string        `json:"key"`
	Client int           `json:"client"`
	Kind   Kind          `json:"kind"`
	Call   time.Duration `json:"call"`
	Return time.Duration `json:"return"` // of Unknown: without meaning

	// Expect is the version that a CAS checked; Write the value that it wanted to write, "" where the object shows no value.
	Expect int64  `json:"expect,omitempty"`
	Write  string `json:"write,omitempty"`

	Outcome Outcome `json:"outcome"`
	// Version and Value are what a read found, and the version that a CAS made (0: it changed nothing, the object was like that).
	Version int64  `json:"version,omitempty"`
	Value   string `json:"value,omitempty"`
	// Node is the replica that answered last.
	Node string `json:"node,omitempty"`
	// Error is why it is unknown.
	Error string `json:"error,omitempty"`
	// Revision is the store's revision of an acknowledged write.
	Revision int64 `json:"revision,omitempty"`
	// Tries is how often it was sent.
	Tries int `json:"tries,omitempty"`
}

// State is a register's state. Version Any: it was written by a CAS whose answer is unknown, and no read showed the version yet.
type State struct {
	Version int64  `json:"version"`
	Value   string `json:"value"`
}

// Any is the version that nobody was told.
const Any int64 = -1

// Log is the history on disk, one operation a line. It is safe for concurrent use.
type Log struct {
	mu sync.Mutex // guards the rest
	f  *os.File
	e  *json.Encoder
}

// NewLog makes the file.
func NewLog(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the run's own folder
	if err != nil {
		return nil, err
	}
	return &Log{f: f, e: json.NewEncoder(f)}, nil
}

// Add writes one operation.
func (l *Log) Add(op Op) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.e.Encode(op); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	return nil
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
