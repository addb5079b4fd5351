package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/snapshot"
)

func counts(config string, requests, errs uint64) ConfigUsage {
	return ConfigUsage{Config: config, Usage: Usage{Requests: requests, Errors: errs, Latency: [LatencyBuckets]uint64{0: requests}, OutputTokens: 10 * requests}}
}

func TestUsageIsSummedByAgentAndConfig(t *testing.T) {
	t.Parallel()
	tb := table(t, false)
	key := func(instance string) Key {
		return tb.Hello(Hello{ID: snapshot.InstanceID{Namespace: "ns", Agent: "a", Instance: instance}}, start).Key
	}
	i, j := key("i"), key("j")
	tb.Used(i, 3, []ConfigUsage{counts("1-a", 2, 1), counts("2-b", 1, 0)})
	tb.Used(j, 4, []ConfigUsage{counts("1-a", 5, 0)})
	tb.Used(i, 1, []ConfigUsage{counts("1-a", 1, 1)})
	tb.Leave(j, Stopped, start) // what it counted stays
	old := i
	key("i")
	tb.Used(old, 9, []ConfigUsage{counts("1-a", 100, 0)}) // of a replaced stream
	var got []string
	for _, u := range tb.Usage() {
		got = append(got, fmt.Sprint(u.Name, " ", u.Config, " ", u.Requests, " ", u.Errors, " ", u.Latency[0], " ", u.OutputTokens))
	}
	if d := cmp.Diff([]string{"a 1-a 8 2 8 80", "a 2-b 1 0 1 10"}, got); d != "" {
		t.Error(d)
	}
	inst := tb.Agent("ns", "a")[0]
	if inst.InFlight != 0 || inst.Requests != 4 || inst.Errors != 2 {
		t.Errorf("after a new stream: %+v; what ended counts on, what runs is told by the next beat", inst)
	}
}

func TestUsageOfOldConfigsIsKeptTogether(t *testing.T) {
	t.Parallel()
	tb := table(t, false)
	k := enter(tb, start)
	for n := range uint64(20) {
		tb.Used(k, 0, []ConfigUsage{counts("first", 1, 0), counts(fmt.Sprint("c", n), 1, 0)})
	}
	sum := uint64(0)
	got := map[string]uint64{}
	for _, u := range tb.Usage() {
		sum += u.Requests
		got[u.Config] = u.Requests
	}
	if sum != 40 || len(got) != maxConfigsCounted+1 || got["first"] != 20 || got["c19"] != 1 || got[""] != 13 {
		t.Errorf("sum %d of %v", sum, got)
	}
}

func TestOddities(t *testing.T) {
	t.Parallel()
	tb := table(t, false)
	k := enter(tb, start)
	tb.Drifted(k)
	for n := 1; n <= 3; n++ {
		k = enter(tb, start.Add(time.Duration(n)*time.Second))
	}
	if i := tb.Agent("ns", "a")[0]; i.Drifts != 1 || i.Takeovers != 3 {
		t.Errorf("%+v", i)
	}
	tb.Leave(k, Lost, start)
	enter(tb, start.Add(5*time.Second)) // nobody was there: no takeover
	k = enter(tb, start.Add(10*time.Minute))
	if i := tb.Agent("ns", "a")[0]; i.Takeovers != 1 {
		t.Errorf("%d takeovers, want 1: the others are long ago", i.Takeovers)
	}
	for range 100 {
		k = enter(tb, start.Add(10*time.Minute))
	}
	if n := len(tb.live(k).hellos); n > maxHellos {
		t.Errorf("%d takeovers are remembered", n)
	}
}
