package auditchain

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// chain makes n links behind a point.
func chain(from Point, n int) []Link {
	if from.Hash == "" {
		from.Hash = Genesis()
	}
	var out []Link
	for i := range n {
		record := fmt.Appendf(nil, `{"actor":"user:ada","message":"<&>","seq":%d}`, from.Seq+int64(i)+1)
		from.Hash = Sum(from.Hash, record)
		out = append(out, Link{Record: record, Hash: from.Hash})
	}
	return out
}

func TestVerifyNamesTheFirstEntryThatDoesNotHold(t *testing.T) {
	t.Parallel()
	rehash := func(links []Link, i int) {
		links[i].Hash = Sum(links[i-1].Hash, links[i].Record)
	}
	cases := map[string]struct {
		spoil func(links []Link) []Link
		want  int64 // 0: whole
	}{
		"whole": {spoil: func(l []Link) []Link { return l }},
		"a byte": {spoil: func(l []Link) []Link {
			l[4].Record = bytes.Replace(l[4].Record, []byte("ada"), []byte("eve"), 1)
			return l
		}, want: 15},
		"no JSON any more": {spoil: func(l []Link) []Link { l[4].Record[0] = '['; return l }, want: 15},
		"its seq": {spoil: func(l []Link) []Link {
			l[4].Record = bytes.Replace(l[4].Record, []byte("15"), []byte("19"), 1)
			return l
		}, want: 15},
		"a hash": {spoil: func(l []Link) []Link { l[4].Hash = l[3].Hash; return l }, want: 15},
		"record and hash": {spoil: func(l []Link) []Link {
			l[4].Record = bytes.Replace(l[4].Record, []byte("ada"), []byte("eve"), 1)
			rehash(l, 4)
			return l
		}, want: 16},
		"one is missing":      {spoil: func(l []Link) []Link { return slices.Delete(l, 4, 5) }, want: 15},
		"the first":           {spoil: func(l []Link) []Link { return l[1:] }, want: 11},
		"the last":            {spoil: func(l []Link) []Link { return l[:9] }, want: 20},
		"all":                 {spoil: func([]Link) []Link { return nil }, want: 11},
		"two change places":   {spoil: func(l []Link) []Link { l[4], l[5] = l[5], l[4]; return l }, want: 15},
		"one comes twice":     {spoil: func(l []Link) []Link { return slices.Insert(l, 5, l[4]) }, want: 16},
		"one is put in":       {spoil: func(l []Link) []Link { return slices.Insert(l, 5, chain(Point{Seq: 15, Hash: l[4].Hash}, 1)[0]) }, want: 17},
		"another chain's":     {spoil: func([]Link) []Link { return chain(Point{Seq: 10}, 10) }, want: 11},
		"one more at the end": {spoil: func(l []Link) []Link { return append(l, chain(Point{Seq: 20, Hash: l[9].Hash}, 1)...) }, want: 21},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			anchor := Point{Seq: 10, Hash: strings.Repeat("ab", 32)}
			links := chain(anchor, 10)
			end := Point{Seq: 20, Hash: links[9].Hash}
			got := Verify(anchor, end, slices.Values(c.spoil(links)))
			switch {
			case c.want == 0 && got != nil:
				t.Errorf("got %v, want none", got)
			case c.want != 0 && (got == nil || got.Seq != c.want || got.Why == ""):
				t.Errorf("got %v, want entry %d", got, c.want)
			}
		})
	}
}

func TestAnEmptyLogIsWhole(t *testing.T) {
	t.Parallel()
	if f := Verify(Point{}, Point{}, slices.Values([]Link(nil))); f != nil {
		t.Error(f)
	}
	if f := Verify(Point{}, Point{Hash: Genesis()}, slices.Values([]Link(nil))); f != nil {
		t.Error(f)
	}
}

func TestALineKeepsTheRecordsBytes(t *testing.T) {
	t.Parallel()
	want := chain(Point{}, 1)[0]
	line := AppendLine(nil, want, Genesis())
	if !bytes.HasSuffix(line, []byte("}\n")) || bytes.Count(line, []byte("\n")) != 1 {
		t.Errorf("line %q", line)
	}
	got, previous, seq, err := ParseLine(line)
	if diff := cmp.Diff(want, got); diff != "" || err != nil || previous != Genesis() || seq != 1 {
		t.Errorf("previous %s, seq %d, %v\n%s", previous, seq, err, diff)
	}
	for _, bad := range []string{"", "{", `{"hash":"x"}`, `{"record":[]}`} {
		if _, _, _, err := ParseLine([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a line", bad)
		}
	}
}

// Whoever has a shell can check a hash.
func TestAShellMakesTheSameHash(t *testing.T) {
	t.Parallel()
	l := chain(Point{}, 1)[0]
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s%s' "$0" "$1" | sha256sum`, Genesis(), string(l.Record)).Output()
	if err != nil || !strings.HasPrefix(string(out), l.Hash) {
		t.Errorf("got %s, %v, want %s", out, err, l.Hash)
	}
}
