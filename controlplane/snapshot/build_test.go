package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// stock is Immutables in memory.
type stock struct {
	specs   map[int64][]byte
	blobs   map[manifest.Hash][]byte
	applied map[manifest.Line]bool
}

func (s *stock) Spec(n int64) (json.RawMessage, manifest.Hash, bool) {
	b, ok := s.specs[n]
	return b, manifest.Sum(b), ok
}

func (s *stock) Blob(h manifest.Hash) ([]byte, bool) {
	b, ok := s.blobs[h]
	return b, ok
}

func (s *stock) Applied(l manifest.Line) bool { return s.applied[l] }

func (s *stock) blob(text string) manifest.Hash {
	h := manifest.Sum([]byte(text))
	s.blobs[h] = []byte(text)
	return h
}

func (s *stock) spec(t *testing.T, n int64, change func(*spec.Agent)) {
	t.Helper()
	a := spec.Agent{
		AgentName: "helper", PromptKey: "team/greeting", PromptLabel: "latest", MaxIterations: 10,
		Release: spec.Release{Strategy: "immediate", OnReject: "rollback"},
		Model:   spec.Model{Model: "m", API: "chat-completions", APIKey: spec.Value{Ref: "key"}},
		Memory:  spec.Memory{StorageType: "in-process", CompressionStrategy: "none", SearchStrategy: "recency"},
		MCPServers: []spec.MCPServerRef{
			{MCPServerName: "tools", Required: true, Headers: map[string]spec.Value{"x": {Ref: "token"}, "y": {Ref: "key"}}},
		},
	}
	change(&a)
	b, err := spec.Canonical(a)
	if err != nil {
		t.Fatal(err)
	}
	s.specs[n] = b
}

// fixture is an agent at revision 1 (stable) and 2 (another prompt, exact version).
func fixture(t *testing.T) (Heads, *stock) {
	t.Helper()
	s := &stock{specs: map[int64][]byte{}, blobs: map[manifest.Hash][]byte{}, applied: map[manifest.Line]bool{}}
	s.spec(t, 1, func(*spec.Agent) {})
	s.spec(t, 2, func(a *spec.Agent) { a.PromptKey, a.PromptLabel, a.PromptVersion = "other", "", "1.0.0" })
	return Heads{
		Epoch: 7,
		Agent: AgentHead{ModRevision: 20, Exists: true, Stable: 1},
		Prompts: map[string]PromptHead{
			"team/greeting": {
				ModRevision: 12, Labels: map[string]string{"latest": "1.1.0"},
				Versions: map[string]manifest.Hash{"1.0.0": s.blob("greeting 1.0"), "1.1.0": s.blob("greeting 1.1")},
			},
			"other": {ModRevision: 30, Labels: map[string]string{"latest": "2.0.0"}, Versions: map[string]manifest.Hash{"1.0.0": s.blob("other 1.0")}},
		},
		MCP:         map[string]MCPHead{"tools": {ModRevision: 25, Current: "3", Versions: map[string]manifest.Hash{"3": s.blob("tools 3")}}},
		Credentials: map[string]CredentialHead{"key": {ModRevision: 5, Version: 4}, "token": {ModRevision: 6, Version: 1}},
	}, s
}

func texts(s Snapshot) []string {
	var out []string
	for _, r := range s.Resources {
		l := r.Line
		out = append(out, l.Kind+" "+l.Name+" "+l.Version+" "+string(r.JSON[:min(len(r.JSON), 12)]))
	}
	return out
}

func TestBuild(t *testing.T) {
	h, s := fixture(t)
	got, err := Build(h, s, Instance{ID: InstanceID{Agent: "helper"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`agent helper - {"agentName"`, "credential key 4 ", "credential token 1 ", "mcp tools 3 tools 3", "prompt team/greeting 1.1.0 greeting 1.1",
	}
	if diff := cmp.Diff(want, texts(got)); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"key", "token"}, got.Credentials); diff != "" {
		t.Errorf("credentials (-want +got):\n%s", diff)
	}
	again, err := Build(h, s, Instance{ID: InstanceID{Agent: "helper"}, RunsRevision: 1})
	if err != nil {
		t.Fatal(err)
	}
	if again.Token.Hash != got.Token.Hash || got.Token.Epoch != 7 || got.Token.Generation != 25 || got.Revision != 1 {
		t.Errorf("token %+v and %+v, want the same hash, epoch 7, generation 25", got.Token, again.Token)
	}
}

func TestBuildResolves(t *testing.T) {
	cases := map[string]struct {
		change   func(*Heads, *stock)
		in       Instance
		revision int64
		has      string // a line's text before the hash
		gen      int64
	}{
		"1: an explicit version comes before the label": {
			change: func(h *Heads, _ *stock) { h.Agent.Stable = 2 }, revision: 2, has: "prompt other 1.0.0", gen: 30,
		},
		"2: what the MCP head adds is a resource policy": {
			change: func(h *Heads, _ *stock) {
				m := h.MCP["tools"]
				m.Policy = []byte(`{"server":"tools"}`)
				h.MCP["tools"] = m
			}, revision: 1, has: "policy tools -", gen: 25,
		},
		"3: generation is over stable, candidate and held, whatever the instance gets": {
			change:   func(h *Heads, _ *stock) { h.Agent.Candidate = 2 },
			revision: 1, has: "prompt team/greeting 1.1.0", gen: 30,
		},
		"8: who runs nothing is offered stable first": {
			change: func(h *Heads, _ *stock) { h.Agent.Candidate = 2 }, revision: 1, has: "prompt team/greeting 1.1.0", gen: 30,
		},
		"8: and the candidate after it serves stable": {
			change: func(h *Heads, _ *stock) { h.Agent.Candidate = 2 }, in: Instance{RunsRevision: 1}, revision: 2, has: "prompt other 1.0.0", gen: 30,
		},
		"8: or has refused it": {
			change: func(h *Heads, _ *stock) { h.Agent.Candidate = 2 }, in: Instance{RefusedStable: true}, revision: 2, has: "prompt other 1.0.0", gen: 30,
		},
		"8: with no stable the candidate is all there is": {
			change: func(h *Heads, _ *stock) { h.Agent.Stable, h.Agent.Candidate = 0, 2 }, revision: 2, has: "prompt other 1.0.0", gen: 30,
		},
		"7.4: a held revision with nothing proven stays what Build gives": {
			change: func(h *Heads, _ *stock) { h.Agent.Stable, h.Agent.Held = 0, 2 }, revision: 2, has: "prompt other 1.0.0", gen: 30,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, s := fixture(t)
			c.change(&h, s)
			c.in.ID = InstanceID{Namespace: "default", Agent: "helper", Instance: "i"}
			got, err := Build(h, s, c.in)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, r := range got.Resources {
				found = found || r.Line.Kind+" "+r.Line.Name+" "+r.Line.Version == c.has
			}
			if !found || got.Revision != c.revision || got.Token.Generation != c.gen {
				t.Errorf("revision %d generation %d %v, want %d, %d, %s", got.Revision, got.Token.Generation, texts(got), c.revision, c.gen, c.has)
			}
			same, err := BuildFor(h, s, Choose(h, s, c.in))
			if diff := cmp.Diff(got, same); err != nil || diff != "" {
				t.Errorf("the key's snapshot differs (%v):\n%s", err, diff)
			}
		})
	}
}

// Semantics 6: a line is proven when a config with it was APPLIED; or after a return, for instances not on the target's
// own-spec line yet, where its head was not moved since.
func TestProven(t *testing.T) {
	cases := map[string]struct {
		change func(*Heads, *stock)
		in     Instance
		want   []string
	}{
		"nothing was ever applied": {change: func(*Heads, *stock) {}},
		"a line of an applied config": {
			change: func(_ *Heads, s *stock) {
				s.applied[manifest.Line{Kind: "credential", Name: "key", Version: "4"}] = true
			},
			want: []string{"credential/key"},
		},
		"after a return, but for heads moved since": {
			change: func(h *Heads, _ *stock) { h.Agent.Returned, h.Agent.MovedAt = true, 20 },
			in:     Instance{RunsRevision: 2},
			want:   []string{"agent/helper", "credential/key", "credential/token", "prompt/team/greeting"},
		},
		"not for an instance that is there": {
			change: func(h *Heads, _ *stock) { h.Agent.Returned, h.Agent.MovedAt = true, 20 },
			in:     Instance{RunsRevision: 1},
		},
		"not for a newer candidate": {
			change: func(h *Heads, _ *stock) { h.Agent.Returned, h.Agent.MovedAt, h.Agent.Candidate = true, 20, 2 },
			in:     Instance{RunsRevision: 1},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, s := fixture(t)
			c.change(&h, s)
			c.in.ID = InstanceID{Agent: "helper"}
			got, err := Build(h, s, c.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Proven); diff != "" {
				t.Errorf("proven (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAbsent(t *testing.T) {
	h, s := fixture(t)
	h.Agent.Deleted = true
	got, err := Build(h, s, Instance{})
	want := Snapshot{Absent: Deleted, Token: manifest.Token{Epoch: 7, Generation: 20}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("deleted (%v):\n%s", err, diff)
	}
	got, err = Build(Heads{Epoch: 7}, s, Instance{})
	if diff := cmp.Diff(Snapshot{Absent: Unknown, Token: manifest.Token{Epoch: 7}}, got); err != nil || diff != "" {
		t.Errorf("unknown (%v):\n%s", err, diff)
	}
}

func TestDangling(t *testing.T) {
	cases := map[string]struct {
		change func(*Heads)
		want   DanglingError
	}{
		"a prompt that was deleted": {
			change: func(h *Heads) { h.Prompts["team/greeting"] = PromptHead{ModRevision: 40, Deleted: true} },
			want:   DanglingError{Resource: "prompt/team/greeting", Field: "promptKey", Reason: "is deleted"},
		},
		"a label that points nowhere": {
			change: func(h *Heads) { h.Prompts["team/greeting"] = PromptHead{ModRevision: 40} },
			want:   DanglingError{Resource: "prompt/team/greeting", Field: "promptKey", Reason: `has no label "latest"`},
		},
		"an MCP entry that isn't there": {
			change: func(h *Heads) { delete(h.MCP, "tools") },
			want:   DanglingError{Resource: "mcp/tools", Field: "mcpServers[0]", Reason: "doesn't exist"},
		},
		"a credential that was deleted": {
			change: func(h *Heads) { h.Credentials["token"] = CredentialHead{Deleted: true} },
			want:   DanglingError{Resource: "credential/token", Field: "mcpServers[0].headers.x", Reason: "is deleted"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, s := fixture(t)
			c.change(&h)
			_, err := Build(h, s, Instance{})
			var got *DanglingError
			if !errors.As(err, &got) {
				t.Fatalf("error %v, want a DanglingError", err)
			}
			if diff := cmp.Diff(c.want, *got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMissingBytes(t *testing.T) {
	h, s := fixture(t)
	clear(s.blobs)
	_, err := Build(h, s, Instance{})
	var missing *MissingError
	if !errors.As(err, &missing) || missing.Resource != "prompt/team/greeting" {
		t.Errorf("error %v, want the prompt's bytes missing", err)
	}
}

func BenchmarkBuildFor(b *testing.B) {
	t := &testing.T{}
	h, s := fixture(t)
	s.spec(t, 1, func(a *spec.Agent) {
		for i := range 5 {
			name := fmt.Sprint("tools", i)
			a.MCPServers = append(a.MCPServers, spec.MCPServerRef{MCPServerName: name, Required: true})
			h.MCP[name] = MCPHead{Current: "1", Versions: map[string]manifest.Hash{"1": s.blob(name)}}
		}
	})
	for b.Loop() {
		if _, err := BuildFor(h, s, Key{Agent: "helper", Target: 1}); err != nil {
			b.Fatal(err)
		}
	}
}
