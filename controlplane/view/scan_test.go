package view

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/manifest"
)

func applied() Applied {
	return Applied{
		Revision: 8, Config: "8-3f2a91c4", Instance: "bot-0", Time: time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC),
		Lines: []manifest.Line{
			{Kind: "agent", Name: "bot", Version: "-", SHA256: manifest.Sum([]byte("a"))},
			{Kind: "prompt", Name: "team/bot", Version: "1.0.0", SHA256: manifest.Sum([]byte("b"))},
			{Kind: "credential", Name: "key", Version: "3"},
		},
	}
}

// TestScanReadsWhatEncodeWrites also holds the shape: a field that is added to Applied must be added to the scanner, or every
// record takes the slow way.
func TestScanReadsWhatEncodeWrites(t *testing.T) {
	got, ok := scanApplied(Encode(applied()))
	if !ok {
		t.Fatal("what Encode writes isn't read")
	}
	if d := cmp.Diff(applied(), got); d != "" {
		t.Error(d)
	}
}

func FuzzScanApplied(f *testing.F) {
	a := applied()
	f.Add(Encode(a))
	f.Add(Encode(Applied{}))
	a.Config, a.Instance = `quote " and \ ü`, "<&>\n"
	f.Add(Encode(a))
	for _, text := range []string{
		`{"revision":1,"config":"","lines":[],"instance":"","time":"2026-11-22T12:00:00Z"}`,
		`{"revision":1,"config":"","lines":null,"instance":"","time":"2026-11-22T12:00:00Z","new":1}`,
		`{"revision":01,"config":"c","lines":[{}],"instance":"i","time":"2026-11-22T12:00:00Z"}`,
		`{"revision":1e3,"config":"c","lines":[{}],"instance":"i","time":"2026-11-22T12:00:00+25:00"}`, `{"revision":-`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := scanApplied(b)
		if !ok {
			return
		}
		want, err := Decode[Applied](b)
		if err != nil {
			t.Fatalf("scanned %+v, but Decode says %v", got, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}
