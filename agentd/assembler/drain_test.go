package assembler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

func TestCancelMidBuild(t *testing.T) {
	w, a := newWorld(t)
	w.set("http://slow", func(s *fakeServer) { s.hang = true })
	d := newDraft()
	d.entries = []spec.MCPServer{entry("a", "http://slow")}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan configclient.Verdict)
	u := d.update(t)
	go func() { done <- a.Apply(ctx, u) }()
	eventually(t, "nothing was built", func() bool { made, _ := w.counts(); return made == 1 })
	cancel()
	if v := <-done; v.Phase != phase.Received {
		t.Errorf("verdict %+v", v)
	}
	eventually(t, "the half-built set was not cleaned up", func() bool { _, closed := w.counts(); return closed == 1 })
	if _, ok := a.Serving(); ok {
		t.Error("a cancelled config is served")
	}
}

func TestSixteenOldSets(t *testing.T) {
	_, a := newWorld(t)
	var releases []func()
	for i := range int64(maxOld + 1) {
		d := newDraft()
		d.revision, d.prompt.Version = i+1, fmt.Sprintf("1.0.%d", i)
		apply(t, a, d, phase.Applied)
		_, release, err := a.Acquire()
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	d := newDraft()
	d.prompt.Version = "2.0.0"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v := a.Apply(ctx, d.update(t)); v.Phase != phase.Received {
		t.Fatalf("verdict %+v", v)
	}
	done := make(chan configclient.Verdict)
	u := d.update(t)
	go func() { done <- a.Apply(t.Context(), u) }()
	releases[0]()
	if v := <-done; v.Phase != phase.Applied {
		t.Errorf("verdict %+v", v)
	}
	for _, r := range releases {
		r()
	}
}

func TestWithdraw(t *testing.T) {
	_, a := newWorld(t)
	apply(t, a, newDraft(), phase.Applied)
	a.Withdraw("agent deleted")
	if _, _, err := a.Acquire(); !errs.Is(err, errs.Unavailable) || err.Error() != "agent deleted" {
		t.Errorf("after deletion: %v", err)
	}
	apply(t, a, newDraft(), phase.Applied)
}

func TestConcurrencyLimit(t *testing.T) {
	_, a := newWorld(t)
	d := newDraft()
	d.agent.Limits = &spec.Limits{Concurrency: 1}
	apply(t, a, d, phase.Applied)
	_, release, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Acquire(); !errs.Is(err, errs.Exhausted) {
		t.Errorf("the second request: %v", err)
	}
	_, looked, err := a.Look()
	if err != nil || a.InFlight() != 1 {
		t.Errorf("who only looks is refused, or counted: %v", err)
	} else {
		looked()
	}
	release()
	release()
	if a.InFlight() != 0 {
		t.Errorf("%d in flight", a.InFlight())
	}
}

func TestNoModelIsATypedError(t *testing.T) {
	_, a := newWorld(t)
	d := newDraft()
	d.agent.Model.BaseURL = ""
	apply(t, a, d, phase.Applied)
	rt, release, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for _, err := range rt.Model.Generate(t.Context(), model.Request{}) {
		var typed *model.Error
		if !errors.As(err, &typed) || typed.Code != "not_supported" {
			t.Errorf("error %v", err)
		}
	}
}

// A thousand swaps under load: no request is lost, none sees a closed client or two configs.
func TestSwapsUnderLoad(t *testing.T) {
	w, a := newWorld(t)
	w.set("http://b", func(s *fakeServer) { s.tools["x"] = "d" })
	apply(t, a, newDraft(), phase.Applied)
	var stop atomic.Bool
	var served atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				rt, release, err := a.Acquire()
				if err != nil {
					t.Errorf("lost a request: %v", err)
					return
				}
				for _, tl := range rt.Tools.Tools() {
					if _, err := tl.Call(t.Context(), nil); err != nil {
						t.Errorf("config %s: %v", rt.Config, err)
					}
				}
				if want := fmt.Sprintf("revision %d", rt.Revision); rt.Revision > 1 && rt.System != want {
					t.Errorf("system %q in revision %d", rt.System, rt.Revision)
				}
				served.Add(1)
				release()
			}
		})
	}
	for i := range int64(1000) {
		d := newDraft()
		d.revision = i + 2
		d.prompt.Version, d.prompt.Template, d.prompt.Variables = fmt.Sprintf("1.0.%d", i), fmt.Sprintf("revision %d", i+2), nil
		if i%5 == 0 {
			d.entries = []spec.MCPServer{entry("a", "http://b")}
		}
		apply(t, a, d, phase.Applied)
	}
	stop.Store(true)
	wg.Wait()
	if served.Load() == 0 {
		t.Error("nothing was served")
	}
}
