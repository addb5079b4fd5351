package front_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/run"
)

func TestRates(t *testing.T) {
	t.Parallel()
	d := newDoor(t, run.Inbound{Keys: []run.InboundKey{key("ci", "k-ci", false), key("boss", "k-boss", false)}, PerMinute: 60, Burst: 2})
	ask := func(shown string) string {
		w := d.call(t, http.MethodPost, "127.0.0.1:1", "localhost", "", "X-Api-Key", shown)
		return http.StatusText(w.Code) + w.Header().Get("Retry-After")
	}
	got := []string{ask("k-ci"), ask("k-ci"), ask("k-ci"), ask("k-boss"), ask("wrong")}
	d.now = d.now.Add(time.Second)
	got = append(got, ask("k-ci"), ask("k-ci"))
	d.config.in.PerMinute, d.config.in.Burst = 6, 0 // one in ten seconds, one at once
	got = append(got, ask("k-ci"))
	d.now = d.now.Add(time.Hour)
	got = append(got, ask("k-ci"), ask("k-ci"))
	d.config.in.PerMinute = 0
	got = append(got, ask("k-ci"))
	want := []string{"OK", "OK", "Too Many Requests1", "OK", "Unauthorized", "OK", "Too Many Requests1", "Too Many Requests10", "OK", "Too Many Requests10", "OK"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What somebody shows where nothing is asked for gives no new bucket: it could be another with every request.
func TestRatesOfTheOpen(t *testing.T) {
	t.Parallel()
	d := newDoor(t, run.Inbound{PerMinute: 60, Burst: 1})
	var got []int
	for _, shown := range []string{"a", "b", "c"} {
		got = append(got, d.call(t, http.MethodPost, "127.0.0.1:1", "localhost", "", "X-Api-Key", shown).Code)
	}
	if diff := cmp.Diff([]int{200, 429, 429}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
