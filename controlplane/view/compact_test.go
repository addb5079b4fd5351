package view

import (
	"encoding/json"
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
			{Kind: "of a newer replica", Name: "ü", Version: "1", SHA256: manifest.Sum([]byte("c"))},
		},
	}
}

func TestAppliedConfigs(t *testing.T) {
	t.Parallel()
	inJSON, err := json.Marshal(applied())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		stored []byte
		want   Applied
	}{
		"as it is written":                {Encode(applied()), applied()},
		"with more by a newer replica":    {append(Encode(applied()), "more"...), applied()},
		"as it was written once, in JSON": {inJSON, applied()},
		"nothing in it":                   {Encode(Applied{}), Applied{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Decode[Applied](tc.stored)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	whole := Encode(applied())
	for cut := range whole {
		if got, err := Decode[Applied](whole[:cut]); err == nil {
			t.Fatalf("cut off after %d bytes it is read as %+v", cut, got)
		}
	}
}

func FuzzExpandApplied(f *testing.F) {
	f.Add(Encode(applied()))
	f.Add(Encode(Applied{}))
	f.Add([]byte{compactForm, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{compactForm, 0, 0, 0, 15, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := expand(b)
		if err != nil {
			return
		}
		again, err := expand(got.compacted())
		if err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
		if d := cmp.Diff(got, again); d != "" {
			t.Fatal(d)
		}
	})
}
