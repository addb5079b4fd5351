package fleet

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
)

func dump(t *testing.T, text string) Dump {
	t.Helper()
	var d Dump
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestNobodyGoesBack(t *testing.T) {
	const (
		older  = `{"loaded": {"config": "1-a", "token": {"epoch": 5, "generation": 10}}}`
		newer  = `{"loaded": {"config": "2-b", "token": {"epoch": 5, "generation": 11}}}`
		era    = `{"loaded": {"config": "2-b", "token": {"epoch": 6, "generation": 1}}}`
		high   = `{"controlPlane": {"fence": {"clusterId": "c", "epoch": 5, "generation": 20}}}`
		low    = `{"controlPlane": {"fence": {"clusterId": "c", "epoch": 5, "generation": 19}}}`
		other  = `{"controlPlane": {"fence": {"clusterId": "d", "epoch": 1, "generation": 1}}}`
		silent = `{}`
	)
	cases := map[string]struct {
		said []string
		free bool
		want int
	}{
		"forward":         {said: []string{older, newer, newer, era}},
		"back":            {said: []string{newer, older}, want: 1},
		"back in between": {said: []string{newer, silent, older}, want: 1},
		"an older epoch":  {said: []string{era, newer}, want: 1},
		"fence back":      {said: []string{high, low}, want: 1},
		"another cluster": {said: []string{high, other}},
		"let go back":     {said: []string{newer, older}, free: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := &report.Findings{}
			w := &Watch{Findings: f}
			n := &world.Node{Name: "it"}
			if c.free {
				w.Free([]*world.Node{n})
			}
			for _, text := range c.said {
				w.Saw(n, dump(t, text))
			}
			if all, got := f.All(); got != c.want {
				t.Errorf("%d violations, want %d: %v", got, c.want, all)
			}
		})
	}
}

// Who goes back while a fault is being made is judged once it has said from whom it takes what.
func TestWhoMayGoBackIsSaidAfterwards(t *testing.T) {
	f := &report.Findings{}
	w := &Watch{Findings: f}
	fence := func(g int) Dump {
		return dump(t, fmt.Sprintf(`{"controlPlane": {"fence": {"clusterId": "c", "epoch": 5, "generation": %d}}}`, g))
	}
	nodes := []*world.Node{{Name: "let"}, {Name: "not let"}}
	saw := func(generation, want int) {
		t.Helper()
		for _, n := range nodes {
			w.Saw(n, fence(generation))
		}
		if all, got := f.All(); got != want {
			t.Errorf("%d violations, want %d: %v", got, want, all)
		}
	}
	saw(9, 0)
	made := w.Making()
	saw(8, 0)
	end := made(nodes[:1])
	saw(7, 2) // the other one's: before and now
	end()
	saw(6, 4)
}
