package assembler

import (
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

// set is one config made live: its clients and who uses it. It is immutable but for its use count and persist.
type set struct {
	update   configclient.Update
	agent    *spec.Agent
	self     string // agent/NAME
	baseURL  string
	model    *shared[endpoint] // nil: no endpoint
	storage  *shared[Storage]
	members  []*member
	static   []phase.Fault // what building it found: warnings
	persist  []phase.Fault // last good could not be written
	runtime  *run.Runtime
	wallTime time.Duration

	uses  atomic.Int64 // one for being current, one per request
	idle  chan struct{}
	close func() // releases the clients, once
}

// member is one MCP server within a set.
type member struct {
	index  int // in mcpServers
	ref    spec.MCPServerRef
	line   manifest.Line
	policy *spec.Policy
	client *shared[Server]
}

// live is what requests take: a set and how it is named now (a Current restamps it).
type live struct {
	set     *set
	runtime *run.Runtime
	token   manifest.Token
}

func newSet(u configclient.Update) *set {
	s := &set{update: u, idle: make(chan struct{})}
	s.uses.Store(1)
	s.close = sync.OnceFunc(func() {
		for _, m := range s.members {
			m.client.release()
		}
		if s.model != nil {
			s.model.release()
		}
		if s.storage != nil {
			s.storage.release()
		}
	})
	return s
}

// enter counts a user in; false when the set has drained.
func (s *set) enter() bool {
	for {
		n := s.uses.Load()
		if n == 0 {
			return false
		}
		if s.uses.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave counts a user out; the last one makes the set idle.
func (s *set) leave() {
	if s.uses.Add(-1) == 0 {
		close(s.idle)
	}
}

// holds reports whether the set uses a server client.
func (s *set) holds(c *shared[Server]) bool {
	if s == nil {
		return false
	}
	for _, m := range s.members {
		if m.client == c {
			return true
		}
	}
	return false
}

// has reports whether the set's config has exactly this line.
func (s *set) has(l manifest.Line) bool {
	if s == nil {
		return false
	}
	return slices.Contains(s.update.Lines, l)
}

// serverKey tells server clients apart: everything that shapes a connection, and nothing else.
func serverKey(e spec.MCPServer, r spec.MCPServerRef) string {
	b, err := json.Marshal(struct {
		Name, Transport, Protocol, RefProtocol string
		Endpoints                              []spec.Endpoint
		Headers, Query                         map[string]spec.Value
		Timeout                                spec.Duration
	}{e.Name, e.Transport, e.ProtocolVersion, r.ProtocolVersion, e.Endpoints, r.Headers, r.QueryParams, r.Timeout})
	return key(b, err)
}

func modelKey(m spec.Model, baseURL string) string {
	b, err := json.Marshal(struct {
		Model   spec.Model
		BaseURL string
	}{m, baseURL})
	return key(b, err)
}

// storageKey holds the model too where it makes the vectors.
func storageKey(m spec.Memory, modelKey string) string {
	if m.EmbeddingModel == "" {
		modelKey = ""
	}
	b, err := json.Marshal(struct {
		Memory spec.Memory
		Model  string
	}{m, modelKey})
	return key(b, err)
}

// key is the hash of what was marshalled. A spec that was decoded from JSON can always be marshalled.
func key(b []byte, err error) string {
	if err != nil {
		panic(err) // caught by Apply, which answers REJECTED
	}
	return manifest.Sum(b).String()
}
