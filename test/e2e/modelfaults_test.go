package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// faultScript is a model endpoint that does wrong what the caller names.
const faultScript = `rules:
  - {name: garbage, when: {user: garbage}, fault: {garbageSSE: true}, reply: {text: "one two three four five six", pace: {chunk: 4}}}
  - {name: broken, when: {user: broken}, fault: {brokenSSE: true}, reply: {text: "one two three four five six", pace: {chunk: 4}}}
  - {name: half, when: {user: half}, fault: {halfOpen: true}, reply: {text: "one two three four five six", pace: {chunk: 4}}}
  - {name: crawl, when: {user: crawl}, fault: {drip: 1s}, reply: {text: "a byte in a second"}}
  - {name: huge, when: {user: huge}, fault: {hugeArguments: 10485760}}
  - {name: reset, when: {user: reset}, fault: {reset: true}, reply: {text: "one two three four five six", pace: {chunk: 4}}}
default: {text: "hello yourself"}
`

// What a model endpoint does wrong is a typed error within the model's timeouts, streamed or not, in bounded memory; callers beside don't
// notice.
func TestWhatAModelEndpointDoesWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, faultScript)
	w.apply(t, harness.Files{
		"helper/agent-base.json": `{"promptKey": "helper"}`,
		"helper/model.json":      `{"model": "scripted", "timeout": "2s", "retry": {"attempts": 1}}`,
		"prompts/helper.json":    `{"promptKey": "helper", "version": "1.0.0", "template": "be helpful"}`,
	})
	a := w.agent(t, "helper")
	for _, tc := range []struct {
		fault         string
		stream, whole string // part of the error
	}{
		{fault: "garbage", stream: "no chunk", whole: "protocol"},
		{fault: "broken", stream: "unreachable", whole: "protocol"},
		{fault: "half", stream: "timeout", whole: "timeout"},
		{fault: "crawl", stream: "timeout", whole: "timeout"},
		{fault: "huge", stream: "arguments", whole: "arguments"},
		{fault: "reset", stream: "unreachable", whole: "unreachable"},
	} {
		for _, stream := range []bool{true, false} {
			var beside sync.WaitGroup
			beside.Go(func() {
				for range 3 {
					if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Text != "hello yourself" {
						t.Errorf("%s: a caller beside: %q, %v", tc.fault, ans.Text, err)
					}
				}
			})
			began := time.Now()
			var err error
			want := tc.whole
			if stream {
				want = tc.stream
				_, err = a.ChatStream(t.Context(), "", tc.fault, nil)
			} else {
				_, err = a.Chat(t.Context(), "", tc.fault)
			}
			took := time.Since(began)
			beside.Wait()
			t.Logf("%s, stream %t: %v (%s)", tc.fault, stream, err, took.Round(time.Millisecond))
			if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 2000 {
				t.Errorf("%s, stream %t: %.500v, want an error that says %q", tc.fault, stream, err, want)
			}
			if took > 20*time.Second {
				t.Errorf("%s, stream %t: took %s at a timeout of 2 s", tc.fault, stream, took)
			}
		}
	}
	if rss := residentMB(t, a.PID()); rss > 250 {
		t.Errorf("%d MB resident after 10 MB of arguments", rss)
	}
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Text != "hello yourself" {
		t.Errorf("after it all: %q, %v", ans.Text, err)
	}
}
