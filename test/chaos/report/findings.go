// Package report gathers what the fault suite found and counted, and writes it down.
package report

import (
	"fmt"
	"sync"
	"time"
)

// keepFindings bounds what is kept; more are counted.
const keepFindings = 500

// Finding is one violation of a property.
type Finding struct {
	Property string    `json:"property"` // "P1", "fence", "secrets", ...
	Detail   string    `json:"detail"`
	At       time.Time `json:"at"`
	During   string    `json:"during,omitempty"` // the fault at work, or the last one
}

// Findings is the list of all of them. It is safe for concurrent use.
type Findings struct {
	// Logf tells people at once; may be nil.
	Logf func(format string, args ...any)

	mu     sync.Mutex // guards the rest
	list   []Finding
	count  int
	during string
}

// Violate notes a violation.
func (f *Findings) Violate(property, format string, args ...any) {
	f.mu.Lock()
	x := Finding{Property: property, Detail: fmt.Sprintf(format, args...), At: time.Now(), During: f.during}
	f.count++
	if len(f.list) < keepFindings {
		f.list = append(f.list, x)
	}
	f.mu.Unlock()
	if f.Logf != nil {
		f.Logf("VIOLATION %s: %s", x.Property, x.Detail)
	}
}

// During says which fault is at work from now on.
func (f *Findings) During(fault string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.during = fault
}

// All gives what was kept, and how many there were.
func (f *Findings) All() ([]Finding, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Finding{}, f.list...), f.count
}
