package publish

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
)

// What is written by hand is, byte by byte, what protobuf writes.
func TestContentIsTheMessage(t *testing.T) {
	t.Parallel()
	resources := []snapshot.Resource{
		{Line: manifest.Line{Kind: manifest.KindAgent, Name: "a", Version: "-", SHA256: manifest.Sum([]byte("x"))}, JSON: json.RawMessage("x")},
		{Line: manifest.Line{Kind: manifest.KindCredential, Name: "key", Version: "3"}},
		{Line: manifest.Line{Kind: manifest.KindMCP, Name: "tools", Version: "", SHA256: manifest.Hash{1}}, JSON: json.RawMessage(strings.Repeat("y", 300))},
		{Line: manifest.Line{Kind: manifest.KindPrompt, Name: strings.Repeat("p", 200), Version: "1.0.0", SHA256: manifest.Hash{2}}, JSON: json.RawMessage("")},
	}
	s := snapshot.Snapshot{Resources: resources}
	for _, missing := range [][]bool{{true, true, true, true}, {false, false, true, false}, {false, false, false, false}} {
		want := &pushv1.Content{}
		for i, r := range resources {
			l := &pushv1.ManifestLine{Kind: r.Line.Kind, Name: r.Line.Name, Version: r.Line.Version}
			credential := r.Line.Kind == manifest.KindCredential
			if !credential {
				l.Sha256 = r.Line.SHA256[:]
			}
			want.Manifest = append(want.Manifest, l)
			if missing[i] && !credential {
				want.Resources = append(want.Resources, &pushv1.Resource{Kind: r.Line.Kind, Name: r.Line.Name, Version: r.Line.Version, Json: r.JSON})
			}
		}
		expected, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := newContents(s, new(writer)).get(missing)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, expected) {
			t.Errorf("missing %v: got %x, want %x", missing, got, expected)
		}
	}
	s.Resources[0].Line.Name = "\xff"
	if _, err := newContents(s, new(writer)).get([]bool{true, true, true, true}); err == nil {
		t.Error("a name that is no text was marshalled")
	}
}

// Small contents are kept up to a size, the newest, and are the same bytes when they are made again; large ones are kept.
func TestWhichContentsAreKept(t *testing.T) {
	t.Parallel()
	var w writer
	content := func(name string, size int) *contents {
		l := manifest.Line{Kind: manifest.KindMCP, Name: name, SHA256: manifest.Sum([]byte(name))}
		return newContents(snapshot.Snapshot{Resources: []snapshot.Resource{{Line: l, JSON: bytes.Repeat([]byte("x"), size)}}}, &w)
	}
	made := func(c *contents) (b []byte, n uint64) {
		t.Helper()
		before := w.marshals.Load()
		b, err := c.get([]bool{true})
		if err != nil {
			t.Fatal(err)
		}
		return b, w.marshals.Load() - before
	}
	large, first := content("large", smallContent), content("first", 1000)
	largeBytes, _ := made(large)
	firstBytes, _ := made(first)
	if again, n := made(first); n != 0 || &again[0] != &firstBytes[0] {
		t.Error("a new small content was made twice")
	}
	last := content("last", 1000)
	for range 2 * keptSmall / 10_000 {
		made(content("other", 10_000))
	}
	made(last)
	if _, n := made(last); n != 0 {
		t.Error("the newest was made twice")
	}
	if again, n := made(first); n != 1 || !bytes.Equal(again, firstBytes) {
		t.Errorf("an old small content was made %d times, or isn't the same", n)
	}
	if again, n := made(large); n != 0 || &again[0] != &largeBytes[0] {
		t.Error("a large content was made twice")
	}
	if w.size > keptSmall {
		t.Errorf("%d bytes are kept", w.size)
	}
}
