package view_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// Times in records are of other machines' clocks: an hour behind here. What is seen is of this machine's.
func TestSeenIsOfThisMachinesClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		if _, err := view.Init(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		put := func(kvs ...store.KV) int64 {
			t.Helper()
			rev, err := s.Commit(t.Context(), store.Txn{Puts: kvs})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return rev
		}
		wrong := time.Now().Add(-time.Hour)
		body := agentSpec(t, "a", "p", "")
		head := func(release string, revision int64) view.AgentHead {
			h := agentHead("a", 1, revision, body, body, body)
			h.State.LastMoveAt = wrong
			if release != "" {
				h.State.Candidate.Release, h.State.Candidate.Since = release, wrong
			}
			return h
		}
		put(blob(body), promptKV("default", "p", "1"))
		opened := put(agentKV("default", head("rel-1", 2)))
		<-time.After(time.Minute)

		v, err := view.Open(t.Context(), view.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- v.Run(ctx) }()
		start := time.Now()
		line := manifest.Line{Kind: manifest.KindPrompt, Name: "P"}
		check := func(what string, moved, release, prompt time.Duration) {
			t.Helper()
			got := v.SeenAgent("default", "A")
			at := map[string]time.Time{"move": got.Moved, "candidate": got.Opened, "prompt": v.SeenLine("default", line)}
			for name, want := range map[string]time.Duration{"move": moved, "candidate": release, "prompt": prompt} {
				if want < 0 && at[name].IsZero() {
					continue
				}
				if d := at[name].Sub(start); d != want {
					t.Errorf("%s: %s seen after %s, want %s", what, name, d, want)
				}
			}
		}
		check("what was there before", 0, 0, 0)
		<-time.After(10 * time.Second)
		put(promptKV("default", "p", "1", "2"))
		check("a shared move", 0, 0, 10*time.Second)
		<-time.After(10 * time.Second)
		put(agentKV("default", head("rel-1", 2).Noted(head("rel-1", 2).State, opened)))
		check("a note in the head", 0, 0, 10*time.Second)
		put(agentKV("default", head("rel-1", 2)))
		check("a move beside the candidate", 20*time.Second, 0, 10*time.Second)
		<-time.After(10 * time.Second)
		put(agentKV("default", head("rel-2", 3)))
		check("another candidate", 30*time.Second, 30*time.Second, 10*time.Second)
		<-time.After(10 * time.Second)
		put(agentKV("default", head("rel-2", 2)))
		check("the same id again, in a store that was brought back", 40*time.Second, 40*time.Second, 10*time.Second)
		<-time.After(10 * time.Second)
		put(agentKV("default", head("", 0)))
		check("no candidate", 50*time.Second, -1, 10*time.Second)
		<-time.After(10 * time.Second)
		put(kv(view.ClusterKey, view.Encode(view.Cluster{ID: "c", Epoch: 99})))
		check("another epoch", time.Minute, -1, time.Minute)
		if got := v.SeenAgent("default", "none"); got != (view.Seen{}) {
			t.Errorf("of nobody: %v", got)
		}
		for _, kind := range []string{manifest.KindPrompt, manifest.KindMCP, manifest.KindPolicy, manifest.KindCredential} {
			if at := v.SeenLine("default", manifest.Line{Kind: kind, Name: "none"}); !at.IsZero() {
				t.Errorf("%s none: %s", kind, at)
			}
		}
		put(mcpKV("default", view.MCPHead{Name: "m"}), credentialKV("default", "k", 1))
		for kind, name := range map[string]string{manifest.KindMCP: "m", manifest.KindPolicy: "m", manifest.KindCredential: "k"} {
			if d := v.SeenLine("default", manifest.Line{Kind: kind, Name: name}).Sub(start); d != time.Minute {
				t.Errorf("%s %s after %s", kind, name, d)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
