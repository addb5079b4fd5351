// Package registryapi is the service behind the shared things that people move without a file: prompt labels, switches
// and approvals of MCP tools, credentials. Each change is one head and one move record in one transaction; instances
// follow because their configs resolve from the head. The people door mounts it. It never talks to instances: what they
// say of their servers it reads from the fleet.
package registryapi

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/probe"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// Vault seals the values of credentials and opens them for a probe that is made as an agent.
type Vault interface {
	Seal(namespace, name string, version int64, value secret.Value) ([]byte, error)
	Reveal(namespace, name string, head view.CredentialHead, version int64) (secret.Value, error)
}

// Fleet tells what instances say of the MCP servers that they use.
type Fleet interface {
	ServerReports(namespace, agent, server string) []fleet.ServerReport
}

// Config is what a Service needs; everything but Audit is required.
type Config struct {
	Store  store.Store
	View   *view.View
	Vault  Vault
	Reseal Resealer
	Fleet  Fleet
	Probe  func(ctx context.Context, t probe.Target) probe.Result
	// Audit hears of credentials that a probe sends.
	Audit  audit.Recorder
	Now    func() time.Time
	Logger *slog.Logger
}

// Service implements agentry.registry.v1's PromptService, McpService and CredentialService. It is safe for concurrent use.
type Service struct {
	registryv1connect.UnimplementedPromptServiceHandler
	registryv1connect.UnimplementedMcpServiceHandler
	registryv1connect.UnimplementedCredentialServiceHandler

	cfg    Config
	writer *headwrite.Writer
	slots  chan struct{} // one for each probe under way

	mu     sync.Mutex // guards probes
	probes map[entryKey]probed
}

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Vault == nil || cfg.Reseal == nil || cfg.Fleet == nil || cfg.Probe == nil {
		return nil, errs.New(errs.Invalid, "registryapi: something required is missing")
	}
	writer, err := headwrite.New(headwrite.Config{Store: cfg.Store, View: cfg.View, Now: cfg.Now, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	return &Service{cfg: cfg, writer: writer, slots: make(chan struct{}, maxProbes), probes: map[entryKey]probed{}}, nil
}

func why(ctx context.Context, cause, message string) headwrite.Why {
	actor := "unknown"
	if p, ok := access.From(ctx); ok {
		actor = p.Name
	}
	return headwrite.Why{Actor: actor, Cause: cause, Message: message}
}

func namespaceOf(given string) string {
	if given == "" {
		return "default"
	}
	return given
}

func notFound(kind, namespace, name string) error {
	return access.Missing(access.Object{Namespace: namespace, Kind: kind, Name: name})
}

// unmoved holds a head to the store revision that the caller knows.
func unmoved(want *int64, what string, is int64) error {
	if want == nil || *want == is {
		return nil
	}
	return errs.New(errs.Conflict, "%s was last written at store revision %d, not %d: read it again", what, is, *want)
}

// inPlay is one revision of an agent from which instances may be served.
type inPlay struct {
	agent    string
	revision int64
	role     string // stable, candidate or held
	spec     *spec.Agent
}

// users gives the revisions in play of every agent that refers to a head, by agent and revision.
func (s *Service) users(kind, namespace, name string) []inPlay {
	var out []inPlay
	for _, k := range s.cfg.View.Dependents(kind, namespace, name) {
		out = append(out, s.inPlay(namespace, k.Name)...)
	}
	return out
}

func (s *Service) inPlay(namespace, agent string) []inPlay {
	head, _, ok := s.cfg.View.Agent(namespace, agent)
	if !ok || head.Deleted {
		return nil
	}
	var out []inPlay
	add := func(n int64, role string) {
		r, ok := head.State.Find(n)
		if !ok || slices.ContainsFunc(out, func(p inPlay) bool { return p.revision == n }) {
			return
		}
		b, ok := s.cfg.View.Blob(r.Spec)
		if !ok {
			return
		}
		if a, err := spec.DecodeAgent(b); err == nil {
			out = append(out, inPlay{agent: head.Name, revision: n, role: role, spec: a})
		}
	}
	add(head.State.Stable, "stable")
	if c := head.State.Candidate; c != nil {
		add(c.Revision, "candidate")
	}
	if h := head.State.Hold; h != nil {
		add(h.Revision, "held")
	}
	slices.SortFunc(out, func(a, b inPlay) int { return int(a.revision - b.revision) })
	return out
}

// agents names the agents of some revisions, each once.
func agents(users []inPlay) []string {
	var out []string
	for _, u := range users {
		if !slices.Contains(out, u.agent) {
			out = append(out, u.agent)
		}
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

var (
	_ registryv1connect.PromptServiceHandler     = (*Service)(nil)
	_ registryv1connect.McpServiceHandler        = (*Service)(nil)
	_ registryv1connect.CredentialServiceHandler = (*Service)(nil)
)
