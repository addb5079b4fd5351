package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// How much one session has to go through: turns that are answered, kills of each instance, questions that a kill left without an answer.
const sessionTurns, sessionKills, sessionLost = 50, 3, 3

// One session goes back and forth between two instances, either of which is killed at any moment: every answered turn is in the history,
// whole and in order, and a turn that was not answered is there whole or not at all.
func TestOneSessionOverTwoInstancesThatAreKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "rules:\n  - {name: answer, reply: {text: \"answer to {{user}}\", delay: 80ms}}\n")
	redis := harness.StartRedis(t, harness.RedisOptions{})
	w.apply(t, harness.Files{
		"desk/agent-base.json": `{"promptKey": "desk"}`, "desk/model.json": `{"model": "m"}`,
		"desk/memory.json":  fmt.Sprintf(`{"storageType": "redis", "address": %q, "compressionStrategy": "none"}`, redis.URL),
		"prompts/desk.json": `{"promptKey": "desk", "version": "1.0.0", "template": "Answer."}`,
	})
	var pair [2]*harness.Agent
	for i := range pair {
		a, err := w.StartAgent(w.cp, "desk", harness.AgentOptions{Instance: fmt.Sprintf("desk-%d", i+1), ModelBaseURL: w.url})
		if err != nil {
			t.Fatal(err)
		}
		pair[i] = a
		eventually(t, 30*time.Second, func(ctx context.Context) error { return ready(ctx, a.Addr) })
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := startKiller(t, pair, rand.New(rand.NewPCG(seed, 1)))

	var asked []string
	answered := map[string]bool{}
	for begun := time.Now(); len(answered) < sessionTurns || len(asked)-len(answered) < sessionLost || !k.enough(); {
		if time.Since(begun) > 4*time.Minute {
			t.Fatalf("in 4 minutes %d questions, %d answers, %d and %d kills", len(asked), len(answered), k.kills[0].Load(), k.kills[1].Load())
		}
		now := len(answered) % 2
		k.asked.Store(int32(now))
		a := pair[now]
		eventually(t, 60*time.Second, func(ctx context.Context) error { return ready(ctx, a.Addr) })
		question := fmt.Sprintf("question %d", len(asked))
		asked = append(asked, question)
		got, err := a.Chat(t.Context(), "one", question)
		switch {
		case err != nil: // killed before, while or after it was answered, or before it was asked
		case got.Text != "answer to "+question:
			t.Fatalf("%s: %q", question, got.Text)
		default:
			answered[question] = true
			k.turns.Add(1)
		}
	}
	k.stop()
	t.Logf("%d questions, %d answers, %d and %d kills", len(asked), len(answered), k.kills[0].Load(), k.kills[1].Load())
	for _, a := range pair {
		eventually(t, 60*time.Second, func(ctx context.Context) error { return ready(ctx, a.Addr) })
		checkHistory(t, history(t, a.Addr, "one"), asked, answered)
	}
	checkShown(t, w, asked, answered)
}

func ready(ctx context.Context, addr string) error {
	code, body, err := harness.Get(ctx, "http://"+addr+"/readyz")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("%d: %s", code, body)
	}
	return err
}

// killer kills one of two instances at a time, by SIGKILL, and starts it again.
type killer struct {
	kills [2]atomic.Int32
	asked atomic.Int32 // the instance that is asked now
	turns atomic.Int32 // answered so far: a killed holder's session stays closed for 5 s, so some must come between two kills
	stop  func()       // ends it and waits
}

func (k *killer) enough() bool {
	return k.kills[0].Load() >= sessionKills && k.kills[1].Load() >= sessionKills
}

func startKiller(t *testing.T, pair [2]*harness.Agent, rng *rand.Rand) *killer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	k := &killer{}
	var wg sync.WaitGroup
	k.stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(k.stop)
	wg.Go(func() {
		for {
			next := k.turns.Load() + 1 + rng.Int32N(6)
			err := harness.Poll(ctx, 5*time.Minute, func(context.Context) error {
				if have := k.turns.Load(); have < next {
					return fmt.Errorf("%d turns of %d", have, next)
				}
				return nil
			})
			timer := time.NewTimer(time.Duration(rng.IntN(150)) * time.Millisecond)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			if ctx.Err() != nil { // a timer of no time may win above
				return
			}
			if err != nil {
				t.Errorf("no answers any more: %v", err)
				return
			}
			i := int(k.asked.Load())
			if rng.IntN(4) == 0 {
				i = 1 - i
			}
			pair[i].Kill()
			k.kills[i].Add(1)
			if err := pair[i].Restart(); err != nil {
				t.Errorf("start again: %v", err)
				return
			}
			err = harness.Poll(context.WithoutCancel(ctx), time.Minute, func(ctx context.Context) error { return ready(ctx, pair[i].Addr) })
			if err != nil {
				t.Errorf("not ready again: %v", err)
				return
			}
		}
	})
	return k
}

type historyTurn struct{ Role, Text string }

func history(t *testing.T, addr, session string) []historyTurn {
	t.Helper()
	code, body, err := harness.Get(t.Context(), "http://"+addr+"/api/v1/sessions/"+session+"/messages?limit=1000")
	if err != nil || code != http.StatusOK {
		t.Fatalf("history: %d %s %v", code, body, err)
	}
	var doc struct{ Turns []historyTurn }
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Turns
}

func checkHistory(t *testing.T, turns []historyTurn, asked []string, answered map[string]bool) {
	t.Helper()
	if len(turns)%2 != 0 {
		t.Fatalf("half an exchange is remembered: %d turns", len(turns))
	}
	at := -1 // the question before, in the order of asking
	held := map[string]bool{}
	for i := 0; i < len(turns); i += 2 {
		q, a := turns[i], turns[i+1]
		if q.Role != "user" || a.Role != "assistant" || a.Text != "answer to "+q.Text {
			t.Errorf("turn %d: %+v is followed by %+v", i, q, a)
		}
		n := slices.Index(asked, q.Text)
		if n <= at {
			t.Errorf("turn %d: %q is twice there, or out of order", i, q.Text)
		}
		at, held[q.Text] = n, true
	}
	for q := range answered {
		if !held[q] {
			t.Errorf("%q was answered and is forgotten", q)
		}
	}
}

// checkShown looks at what the model was shown with each question: every exchange that was answered before.
func checkShown(t *testing.T, w *world, asked []string, answered map[string]bool) {
	t.Helper()
	for _, s := range w.model.Requests() {
		n := slices.Index(asked, s.User)
		if n < 0 || !answered[s.User] {
			continue
		}
		var shown []string
		for _, m := range s.Messages {
			if m.Role == "user" {
				shown = append(shown, m.Content)
			}
		}
		for _, before := range asked[:n] {
			if answered[before] && !slices.Contains(shown, before) {
				t.Errorf("%q was asked without %q: %s", s.User, before, strings.Join(shown, ", "))
			}
		}
	}
}
