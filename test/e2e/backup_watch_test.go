package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/test/harness"
)

// follower looks at one instance again and again: what it runs, and how far its fence is.
type follower struct {
	agent *harness.Agent
	stop  context.CancelFunc
	done  chan struct{}

	mu     sync.Mutex // guards what follows
	fence  manifest.Fence
	runs   []string // hashes of configs, each as long as it ran once
	moved  time.Time
	faults []string
}

func (s *spread) followed(t *testing.T) []*follower {
	t.Helper()
	var out []*follower
	for _, a := range s.agents {
		ctx, stop := context.WithCancel(t.Context())
		f := &follower{agent: a, stop: stop, done: make(chan struct{})}
		go f.follow(ctx)
		t.Cleanup(func() { stop(); <-f.done })
		out = append(out, f)
	}
	for _, f := range out {
		eventually(t, 10*time.Second, func(context.Context) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.runs) == 0 {
				return errors.New("nothing seen")
			}
			return nil
		})
	}
	return out
}

func (f *follower) follow(ctx context.Context) {
	defer close(f.done)
	tick := time.NewTicker(150 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := f.look(ctx); err != nil && ctx.Err() == nil {
			f.mu.Lock()
			f.faults = append(f.faults, err.Error())
			f.mu.Unlock()
		}
	}
}

func (f *follower) look(ctx context.Context) error {
	code, body, err := harness.Get(ctx, f.agent.URL()+"/admin/config")
	if err != nil || code != 200 {
		return fmt.Errorf("/admin/config: %d %s %w", code, body, err)
	}
	var shown struct {
		Client struct {
			Fence manifest.Fence `json:"fence"`
		} `json:"controlPlane"`
		Loaded struct {
			Token struct {
				Hash string `json:"hash"`
			} `json:"token"`
		} `json:"loaded"`
	}
	if err := json.Unmarshal([]byte(body), &shown); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := shown.Client.Fence
	if now.ClusterID == f.fence.ClusterID && (now.Epoch < f.fence.Epoch || now.Epoch == f.fence.Epoch && now.Generation < f.fence.Generation) {
		f.faults = append(f.faults, fmt.Sprintf("the fence went from %+v to %+v", f.fence, now))
	}
	f.fence = now
	if hash := shown.Loaded.Token.Hash; len(f.runs) == 0 || f.runs[len(f.runs)-1] != hash {
		f.runs, f.moved = append(f.runs, hash), time.Now()
	}
	return nil
}

// judgeFollowed ends following: every instance moved as often as wanted since, and came to the epoch. It answers when the last moved.
func judgeFollowed(t *testing.T, all []*follower, moves map[string]int, epoch uint64) (last time.Time) {
	t.Helper()
	for _, f := range all {
		f.stop()
		<-f.done
		if len(f.faults) > 0 {
			t.Errorf("%s: %v", f.agent.Instance, f.faults)
		}
		if got := len(f.runs) - 1; got != moves[f.agent.Agent] {
			t.Errorf("%s moved %d times (%v), want %d", f.agent.Instance, got, f.runs, moves[f.agent.Agent])
		}
		if f.fence.Epoch != epoch {
			t.Errorf("the fence of %s is %+v, want epoch %d", f.agent.Instance, f.fence, epoch)
		}
		if f.moved.After(last) && moves[f.agent.Agent] > 0 {
			last = f.moved
		}
	}
	return last
}

// writer applies pairs of an agent and its prompt at a replica, one after the other.
type writer struct {
	stop context.CancelFunc
	done chan struct{}
	all  []written
}

type written struct {
	name       string
	began, end time.Time
	err        error
}

func (s *spread) writes(t *testing.T, cp *harness.ControlPlane, prefix string) *writer {
	t.Helper()
	api, err := cp.API()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	w := &writer{stop: stop, done: make(chan struct{})}
	t.Cleanup(func() { stop(); <-w.done })
	go func() {
		defer close(w.done)
		for n := 0; ctx.Err() == nil; n++ {
			one := written{name: fmt.Sprintf("%s-%d", prefix, n), began: time.Now()}
			call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			_, one.err = api.Apply(call, harness.Files{
				one.name + "/agent-base.json":   fmt.Sprintf(`{"promptKey": %q}`, one.name),
				one.name + "/model.json":        `{"model": "scripted"}`,
				"prompts/" + one.name + ".json": fmt.Sprintf(`{"promptKey": %q, "version": "1.0.0", "template": "x"}`, one.name),
			})
			cancel()
			one.end = time.Now()
			w.all = append(w.all, one)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return w
}

// judgeWrites ends a writer: what was refused says why and isn't there, what was answered after the restore is there, and nothing is
// there in part. It answers how many were refused.
func (s *spread) judgeWrites(t *testing.T, w *writer, restored time.Time) (refused int) {
	t.Helper()
	w.stop()
	<-w.done
	there := map[string]map[string]bool{"agent": {}, "prompt": {}}
	for kind, names := range there {
		for page := ""; ; {
			resp, err := s.api.Spec.List(t.Context(), connect.NewRequest(&specv1.ListRequest{Namespace: "default", Kind: kind, PageToken: page}))
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range resp.Msg.GetObjects() {
				names[o.GetName()] = true
			}
			if page = resp.Msg.GetNextPageToken(); page == "" {
				break
			}
		}
	}
	after := 0
	for _, one := range w.all {
		agent, prompt := there["agent"][one.name], there["prompt"][one.name]
		if agent != prompt {
			t.Errorf("%s is half there: agent %t, prompt %t", one.name, agent, prompt)
		}
		switch {
		case one.err != nil:
			refused++
			if agent {
				t.Errorf("%s was refused (%v) and is there", one.name, one.err)
			}
			if text := one.err.Error(); connect.CodeOf(one.err) != connect.CodeUnavailable || !strings.Contains(text, "being restored") && !strings.Contains(text, "began epoch") {
				t.Errorf("a write during a restore was answered %v", one.err)
			}
		case one.began.After(restored):
			after++
			if !agent {
				t.Errorf("%s was written after the restore and isn't there", one.name)
			}
		}
	}
	if after == 0 {
		t.Error("nothing was written after the restore")
	}
	return refused
}
