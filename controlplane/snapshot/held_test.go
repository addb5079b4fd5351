package snapshot

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/manifest"
)

// sharedOf gives the shared lines of a snapshot as "kind/name version", a policy's with its bytes.
func sharedOf(s Snapshot) []string {
	var out []string
	for _, r := range s.Resources {
		switch r.Line.Kind {
		case manifest.KindAgent:
		case manifest.KindPolicy:
			out = append(out, r.Line.Resource()+" "+string(r.JSON))
		default:
			out = append(out, r.Line.Resource()+" "+r.Line.Version)
		}
	}
	return out
}

// heldFixture is the fixture with more than one version of everything, as pins and vetoes need it.
func heldFixture(t *testing.T) (Heads, *stock) {
	t.Helper()
	h, s := fixture(t)
	tools := h.MCP["tools"]
	tools.Versions["2"], tools.Policy = s.blob("tools 2"), []byte("now")
	h.MCP["tools"] = tools
	s.blob("then")
	h.Credentials["key"] = CredentialHead{ModRevision: 5, Version: 4, Kept: []int64{3, 4}}
	h.Credentials["token"] = CredentialHead{ModRevision: 6, Version: 1, Kept: []int64{1}}
	return h, s
}

func hashOf(text string) string { return manifest.Sum([]byte(text)).String() }

func pinOf(lines ...manifest.Line) map[string]manifest.Line {
	out := map[string]manifest.Line{}
	for _, l := range lines {
		out[l.Resource()] = l
	}
	return out
}

func TestHeld(t *testing.T) {
	now := []string{"credential/key 4", "credential/token 1", "mcp/tools 3", "policy/tools now", "prompt/team/greeting 1.1.0"}
	but := func(i int, line string) []string {
		out := append([]string(nil), now...)
		out[i] = line
		return out
	}
	greeting := manifest.Line{Kind: "prompt", Name: "team/greeting", Version: "1.0.0", SHA256: manifest.Sum([]byte("greeting 1.0"))}
	tools := manifest.Line{Kind: "mcp", Name: "tools", Version: "2", SHA256: manifest.Sum([]byte("tools 2"))}
	then := manifest.Line{Kind: "policy", Name: "tools", Version: "-", SHA256: manifest.Sum([]byte("then"))}
	for name, c := range map[string]struct {
		vetoes         map[string]Veto
		pins           map[string]manifest.Line
		change         func(h Heads)
		want           []string
		vetoed, pinned []string
	}{
		"nothing held": {want: now},
		"a vetoed prompt": {
			vetoes: map[string]Veto{"prompt/team/greeting": {Refused: []string{"1.1.0"}, Use: "1.0.0"}},
			want:   but(4, "prompt/team/greeting 1.0.0"), vetoed: []string{"prompt/team/greeting"},
		},
		"a veto that the head has left": {
			vetoes: map[string]Veto{"prompt/team/greeting": {Refused: []string{"1.2.0"}, Use: "1.0.0"}},
			want:   now,
		},
		"a veto whose use was taken offline": {
			vetoes: map[string]Veto{"prompt/team/greeting": {Refused: []string{"1.1.0"}, Use: "0.9.0"}},
			want:   now,
		},
		"a use that was refused itself": {
			vetoes: map[string]Veto{"prompt/team/greeting": {Refused: []string{"1.0.0", "1.1.0"}, Use: "1.0.0"}},
			want:   now,
		},
		"a vetoed entry": {
			vetoes: map[string]Veto{"mcp/tools": {Refused: []string{"1", "3"}, Use: "2"}},
			want:   but(2, "mcp/tools 2"), vetoed: []string{"mcp/tools"},
		},
		"a vetoed policy": {
			vetoes: map[string]Veto{"policy/tools": {Refused: []string{hashOf("now")}, Use: hashOf("then")}},
			want:   but(3, "policy/tools then"), vetoed: []string{"policy/tools"},
		},
		"a policy whose bytes are not kept": {
			vetoes: map[string]Veto{"policy/tools": {Refused: []string{hashOf("now")}, Use: hashOf("never")}},
			want:   now,
		},
		"a vetoed credential": {
			vetoes: map[string]Veto{"credential/key": {Refused: []string{"4"}, Use: "3"}},
			want:   but(0, "credential/key 3"), vetoed: []string{"credential/key"},
		},
		"a credential whose old value is not kept": {
			vetoes: map[string]Veto{"credential/key": {Refused: []string{"4"}, Use: "2"}},
			want:   now,
		},
		"a veto of something else": {
			vetoes: map[string]Veto{"prompt/other": {Refused: []string{"1.1.0"}, Use: "1.0.0"}},
			want:   now,
		},
		"a pin before everything, a veto of its version too": {
			pins:   pinOf(greeting),
			vetoes: map[string]Veto{"prompt/team/greeting": {Refused: []string{"1.0.0", "1.1.0"}, Use: "1.1.0"}},
			want:   but(4, "prompt/team/greeting 1.0.0"), pinned: []string{"prompt/team/greeting"},
		},
		"a pinned entry runs with the policy that it had": {
			pins: pinOf(tools, then),
			want: []string{"credential/key 4", "credential/token 1", "mcp/tools 2", "policy/tools then", "prompt/team/greeting 1.1.0"},
			pinned: []string{
				"mcp/tools", "policy/tools",
			},
		},
		"or with none": {
			pins:   pinOf(tools),
			want:   []string{"credential/key 4", "credential/token 1", "mcp/tools 2", "prompt/team/greeting 1.1.0"},
			pinned: []string{"mcp/tools"},
		},
		"a pinned version resolves by its content": {
			pins: pinOf(greeting),
			change: func(h Heads) {
				p := h.Prompts["team/greeting"]
				p.Deleted = true
				h.Prompts["team/greeting"] = p
			},
			want: but(4, "prompt/team/greeting 1.0.0"), pinned: []string{"prompt/team/greeting"},
		},
		"a pinned credential": {
			pins: pinOf(manifest.Line{Kind: "credential", Name: "key", Version: "3"}),
			want: but(0, "credential/key 3"), pinned: []string{"credential/key"},
		},
		"a pinned credential whose value is gone": {
			pins: pinOf(manifest.Line{Kind: "credential", Name: "key", Version: "2"}),
			want: now,
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, im := heldFixture(t)
			h.Vetoes, h.Pins = c.vetoes, c.pins
			if c.change != nil {
				c.change(h)
			}
			s, err := BuildFor(h, im, Key{Agent: "helper", Target: 1})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, sharedOf(s)); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([][]string{c.vetoed, c.pinned}, [][]string{s.Vetoed, s.Pinned}); diff != "" {
				t.Errorf("held (-want +got):\n%s", diff)
			}
			if s.Token.Hash != manifest.Of(s.Lines()) {
				t.Error("the hash isn't that of the lines")
			}
		})
	}
}

// The generation counts the heads that vetoes and pins name, whether a spec in play refers to them or not.
func TestGenerationOfHeld(t *testing.T) {
	h, im := heldFixture(t)
	h.Vetoes = map[string]Veto{"prompt/other": {Refused: []string{"9"}, Use: "1.0.0"}}
	s, err := BuildFor(h, im, Key{Agent: "helper", Target: 1})
	if err != nil || s.Token.Generation != 30 {
		t.Errorf("generation %d, %v; want that of the vetoed head, 30", s.Token.Generation, err)
	}
	tools := h.MCP["tools"]
	tools.ModRevision = 40
	h.Vetoes, h.MCP["gone"] = nil, tools
	h.Pins = pinOf(manifest.Line{Kind: "policy", Name: "gone", Version: "-"})
	if s, err = BuildFor(h, im, Key{Agent: "helper", Target: 1}); err != nil || s.Token.Generation != 40 {
		t.Errorf("generation %d, %v; want that of the pinned policy's head, 40", s.Token.Generation, err)
	}
}

// A pin whose bytes are missing is a fault of the store: nothing else is given in their place.
func TestPinWithoutBytes(t *testing.T) {
	h, im := heldFixture(t)
	h.Pins = pinOf(manifest.Line{Kind: "prompt", Name: "team/greeting", Version: "7", SHA256: manifest.Sum([]byte("never stored"))})
	_, err := BuildFor(h, im, Key{Agent: "helper", Target: 1})
	if err == nil || !strings.Contains(err.Error(), "bytes of prompt/team/greeting 7") {
		t.Errorf("error %v", err)
	}
}
