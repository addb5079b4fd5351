package registryapi

import (
	"context"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/probe"
	"github.com/agentry/agentry/controlplane/view"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

const (
	maxProbes    = 8 // at once; one more is told to try again
	keptProbes   = 1024
	probeTimeout = 20 * time.Second
	transportWeb = "streamable-http"
)

type entryKey struct{ namespace, name string } // name in lower case

func keyOf(namespace, name string) entryKey {
	return entryKey{namespace: namespace, name: strings.ToLower(name)}
}

// probed is the last look at a server. It is status: this replica's memory, gone with it.
type probed struct {
	result  probe.Result
	version string        // of the entry
	hash    manifest.Hash // of that version's content
	agent   string
	at      time.Time
}

func (p probed) wire() *registryv1.ProbeResult {
	r := p.result
	return &registryv1.ProbeResult{
		Healthy: r.Code == "", Code: string(r.Code), Message: r.Message, Endpoint: r.Endpoint, ProtocolVersion: r.ProtocolVersion,
		ServerName: r.ServerName, ServerVersion: r.ServerVersion, Version: p.version, Agent: p.agent, Time: timestamppb.New(p.at), Took: durationpb.New(r.Took),
	}
}

// lastProbe gives the last look at an entry as it is now.
func (s *Service) lastProbe(namespace string, head view.MCPHead) (probed, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.probes[keyOf(namespace, head.Name)]
	ref, known := versionOf(head, head.Current)
	return p, ok && known && p.hash == ref.Hash
}

// remember keeps a look; where too many are kept the oldest goes.
func (s *Service) remember(key entryKey, p probed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.probes[key]; !ok && len(s.probes) >= keptProbes {
		var oldest entryKey
		var at time.Time
		for k, q := range s.probes {
			if at.IsZero() || q.at.Before(at) {
				oldest, at = k, q.at
			}
		}
		delete(s.probes, oldest)
	}
	s.probes[key] = p
}

func versionOf(head view.MCPHead, version string) (view.VersionRef, bool) {
	i := slices.IndexFunc(head.Versions, func(v view.VersionRef) bool { return v.Version == version })
	if i < 0 {
		return view.VersionRef{}, false
	}
	return head.Versions[i], true
}

// Probe looks at a server now.
func (s *Service) Probe(ctx context.Context, req *connect.Request[registryv1.ProbeRequest]) (*connect.Response[registryv1.ProbeResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	head, _, err := s.entry(namespace, m.GetServer())
	if err != nil {
		return nil, err
	}
	look := probed{version: head.Current, agent: m.GetAgent()}
	ref := spec.MCPServerRef{}
	if m.GetAgent() != "" {
		if ref, err = s.refOf(ctx, namespace, m.GetAgent(), head.Name); err != nil {
			return nil, err
		}
		if ref.Version != "" {
			look.version = ref.Version
		}
	}
	entry, hash, err := s.content(head, look.version)
	if err != nil {
		return nil, err
	}
	target, err := s.target(namespace, entry, ref)
	if err != nil {
		return nil, err
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return nil, errs.New(errs.Exhausted, "%d probes are under way, try again", maxProbes)
	}
	s.used(ctx, namespace, entry.Name, ref)
	timeout := probeTimeout
	if d := m.GetTimeout().AsDuration(); d > 0 && d < timeout {
		timeout = d
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	look.at, look.hash = s.cfg.Now().UTC(), hash
	if entry.Transport == transportWeb {
		look.result = s.cfg.Probe(bounded, target)
	} else {
		look.result = probe.Result{Code: phase.NotSupported, Message: "the control plane can't probe transport " + entry.Transport}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // the caller is gone: what was found is of no server's making
	}
	s.remember(keyOf(namespace, head.Name), look)
	resp := &registryv1.ProbeResponse{Result: look.wire()}
	for _, t := range look.result.Tools {
		resp.Tools = append(resp.Tools, wireTool(head, t.Name, &seenTool{description: t.Description, by: map[string][]string{t.Digest: {byProbe}}}))
	}
	return connect.NewResponse(resp), nil
}

// refOf gives how an agent's desired revision refers to a server.
func (s *Service) refOf(ctx context.Context, namespace, agent, server string) (spec.MCPServerRef, error) {
	o := access.Object{Namespace: namespace, Kind: manifest.KindAgent, Name: agent, Labels: s.cfg.View.AgentLabels(namespace, agent)}
	if err := access.Check(ctx, read, o); err != nil {
		return spec.MCPServerRef{}, err
	}
	head, _, ok := s.cfg.View.Agent(namespace, agent)
	if !ok || head.Deleted || head.Name != agent {
		return spec.MCPServerRef{}, notFound(manifest.KindAgent, namespace, agent)
	}
	for _, p := range s.inPlay(namespace, agent) {
		if p.revision != head.State.Desired() {
			continue
		}
		for _, r := range p.spec.MCPServers {
			if r.MCPServerName == server {
				return r, nil
			}
		}
	}
	return spec.MCPServerRef{}, errs.New(errs.Precondition, "agent %s doesn't use MCP server %s", agent, server)
}

func (s *Service) content(head view.MCPHead, version string) (*spec.MCPServer, manifest.Hash, error) {
	ref, ok := versionOf(head, version)
	if !ok {
		return nil, manifest.Hash{}, errs.New(errs.NotFound, "mcp %s has no version %q", head.Name, version)
	}
	b, ok := s.cfg.View.Blob(ref.Hash)
	if !ok {
		return nil, manifest.Hash{}, errs.New(errs.Internal, "the content of mcp %s version %s is missing in the store", head.Name, version)
	}
	entry, err := spec.DecodeMCPServer(b)
	if err != nil {
		return nil, manifest.Hash{}, errs.New(errs.Internal, "content of mcp %s version %s: %w", head.Name, version, err)
	}
	return entry, ref.Hash, nil
}

// target puts together where to look and with what.
func (s *Service) target(namespace string, entry *spec.MCPServer, ref spec.MCPServerRef) (probe.Target, error) {
	t := probe.Target{Name: entry.Name, Namespace: namespace, ProtocolVersion: entry.ProtocolVersion}
	if ref.ProtocolVersion != "" {
		t.ProtocolVersion = ref.ProtocolVersion
	}
	for _, e := range entry.Endpoints {
		t.Endpoints = append(t.Endpoints, e.URL)
	}
	var err error
	if t.Headers, err = s.values(namespace, t.Endpoints, ref.Headers); err != nil {
		return t, err
	}
	t.Query, err = s.values(namespace, t.Endpoints, ref.QueryParams)
	return t, err
}

// values opens credentials that are to be sent to some addresses.
func (s *Service) values(namespace string, addresses []string, in map[string]spec.Value) (map[string]secret.Value, error) {
	out := make(map[string]secret.Value, len(in))
	for name, v := range in {
		if v.Ref == "" {
			out[name] = secret.NewValue(v.Literal)
			continue
		}
		head, _, err := s.credential(namespace, v.Ref)
		if err != nil {
			return nil, err
		}
		if to := spec.Forbidden(head.AllowedOrigins, addresses); to != "" {
			return nil, errs.New(errs.Precondition, "credential %s may not be sent to %s, only to %s", head.Name, to, strings.Join(head.AllowedOrigins, ", "))
		}
		if out[name], err = s.cfg.Vault.Reveal(namespace, head.Name, head, head.Version); err != nil {
			return nil, err
		}
	}
	return out, nil
}
