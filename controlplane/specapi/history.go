package specapi

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

// The kinds of a history entry.
const (
	entryRevision = "revision"
	entryMove     = "move"
)

// History answers an object's revisions and moves, newest first: an agent's own merged with the moves of the shared
// heads that it refers to today and that the caller may see (semantics.md 7.8).
func (s *Service) History(ctx context.Context, req *connect.Request[specv1.HistoryRequest]) (*connect.Response[specv1.HistoryResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	if err := checkKind(m.GetKind()); err != nil {
		return nil, err
	}
	var entries []*specv1.HistoryEntry
	if m.GetKind() == kindAgent {
		head, _, ok := s.view.Agent(namespace, m.GetName())
		if !ok || head.Name != m.GetName() {
			return nil, notFound(kindAgent, namespace, m.GetName())
		}
		entries = s.agentHistory(s.caller(ctx), namespace, head)
	} else {
		o, err := s.nowOf(m.GetKind(), namespace, m.GetName())
		if err != nil {
			return nil, err
		}
		if o.GetName() != m.GetName() {
			return nil, notFound(m.GetKind(), namespace, m.GetName())
		}
		entries = s.sharedMoves(namespace, m.GetKind(), m.GetName(), 0, plainName)
	}
	slices.SortStableFunc(entries, func(a, b *specv1.HistoryEntry) int { return int(b.GetSeq() - a.GetSeq()) })
	return connect.NewResponse(&specv1.HistoryResponse{Entries: entries}), nil
}

func (s *Service) agentHistory(who caller, namespace string, head view.AgentHead) []*specv1.HistoryEntry {
	configs := map[int64]string{} // the config with which a revision was last applied
	for _, c := range s.view.AppliedConfigs(namespace, head.Name) {
		if configs[c.Revision] == "" {
			configs[c.Revision] = c.Config
		}
	}
	refusals := s.view.Refusals(namespace, head.Name)
	var entries []*specv1.HistoryEntry
	first := int64(0)
	for _, move := range s.view.Moves(namespace, kindAgent, head.Name) {
		first = move.Seq
		for _, h := range ownMoves(move, kindAgent, head.Name) {
			e := entryOf(move, h)
			if h.Revision > 0 {
				e.Kind, e.State = entryRevision, string(stateOf(head, h.Revision))
				if e.Config == "" {
					e.Config = configs[h.Revision]
				}
				if len(e.Faults) == 0 && e.State == string(phase.StateRefused) {
					e.Config, e.Faults = refusedAs(refusals, h.Revision, e.Config)
				}
			}
			entries = append(entries, e)
		}
	}
	for _, ref := range s.referred(head) {
		if !who.sees(ref.kind, namespace, ref.name) {
			continue
		}
		entries = append(entries, s.sharedMoves(namespace, ref.kind, ref.name, first, qualifiedName)...)
	}
	return entries
}

// refusedAs gives the config and faults of a refused revision.
func refusedAs(refusals []view.Refusal, revision int64, config string) (string, []*specv1.ResourceFault) {
	i := slices.IndexFunc(refusals, func(r view.Refusal) bool { return r.Revision == revision })
	if i < 0 {
		return config, nil
	}
	if config == "" {
		config = manifest.ConfigName(revision, refusals[i].Hash)
	}
	return config, faultsOf(refusals[i].Faults)
}

// stateOf gives a revision's fate. One that is no longer kept was superseded.
func stateOf(head view.AgentHead, revision int64) phase.State {
	r, ok := head.State.Find(revision)
	if !ok || r.State == "" {
		return phase.StateSuperseded
	}
	return r.State
}

// sharedMoves gives the moves of a shared head from a store revision on.
func (s *Service) sharedMoves(namespace, kind, name string, from int64, show func(h view.HeadMove, at string) string) []*specv1.HistoryEntry {
	var entries []*specv1.HistoryEntry
	for _, move := range s.view.Moves(namespace, kind, name) {
		if move.Seq < from {
			break
		}
		for _, h := range ownMoves(move, kind, name) {
			e := entryOf(move, h)
			e.From, e.To = show(h, h.From), show(h, h.To)
			if from == 0 { // its own history: a new version is a revision
				e.Revision = h.Revision
				if h.Revision > 0 {
					e.Kind = entryRevision
				}
			} else {
				e.Revision = 0
			}
			entries = append(entries, e)
		}
	}
	return entries
}

// plainName shows where a head or a part of it was: "1.0.1", "label prod=1.0.1".
func plainName(h view.HeadMove, at string) string {
	if at == "" || h.Part == "" {
		return at
	}
	return h.Part + "=" + at
}

// qualifiedName is plainName with the head's name: "prompt/bot@1.0.1", "prompt/bot label prod=1.0.1".
func qualifiedName(h view.HeadMove, at string) string {
	switch {
	case at == "":
		return ""
	case h.Part == "":
		return h.Kind + "/" + h.Name + "@" + at
	default:
		return h.Kind + "/" + h.Name + " " + plainName(h, at)
	}
}

func ownMoves(move view.Move, kind, name string) []view.HeadMove {
	return slices.DeleteFunc(slices.Clone(move.Heads), func(h view.HeadMove) bool {
		return h.Kind != kind || !strings.EqualFold(h.Name, name)
	})
}

func entryOf(move view.Move, h view.HeadMove) *specv1.HistoryEntry {
	e := &specv1.HistoryEntry{
		Seq: move.Seq, Kind: entryMove, Revision: h.Revision, Config: h.Config, From: h.From, To: h.To, Actor: move.Actor,
		Cause: move.Cause, Message: move.Message, Time: timestamppb.New(move.Time), Faults: faultsOf(h.Faults),
	}
	if h.Move != "" && string(h.Move) != move.Cause {
		e.Cause = string(h.Move)
	}
	if h.Revision == 0 && h.Kind == kindAgent {
		e.Revision, _ = strconv.ParseInt(h.To, 10, 64)
	}
	return e
}

func faultsOf(faults []phase.Fault) []*specv1.ResourceFault {
	var out []*specv1.ResourceFault
	for _, f := range faults {
		out = append(out, &specv1.ResourceFault{
			Resource: f.Resource, Field: f.Field, Code: string(f.Code), Message: f.Message, Severity: string(f.Severity), Retryable: f.Retryable,
		})
	}
	return out
}

// headRef names a head that an agent refers to.
type headRef struct{ kind, name string }

// referred gives the shared heads that the desired and the stable revision refer to, each once.
func (s *Service) referred(head view.AgentHead) []headRef {
	var out []headRef
	for _, n := range []int64{head.State.Desired(), head.State.Stable} {
		r, ok := head.State.Find(n)
		if !ok {
			continue
		}
		b, ok := s.view.Blob(r.Spec)
		if !ok {
			continue
		}
		a, err := spec.DecodeAgent(b)
		if err != nil {
			continue
		}
		for _, ref := range a.References() {
			h := headRef{kind: ref.Kind, name: ref.Name}
			if ref.Kind != kindAgent && !slices.Contains(out, h) {
				out = append(out, h)
			}
		}
	}
	return out
}

// decodeAgent reads an agent's stored revision.
func (s *Service) decodeAgent(head view.AgentHead, revision int64) (*spec.Agent, error) {
	r, ok := head.State.Find(revision)
	if !ok {
		return nil, errs.New(errs.NotFound, "agent %s has no revision %d", head.Name, revision)
	}
	b, err := s.content(r.Spec)
	if err != nil {
		return nil, fmt.Errorf("agent %s revision %d: %w", head.Name, revision, err)
	}
	a, err := spec.DecodeAgent(b)
	if err != nil {
		return nil, errs.New(errs.Internal, "content of agent %s revision %d: %w", head.Name, revision, err)
	}
	return a, nil
}
