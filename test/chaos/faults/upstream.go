package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/test/chaos/world"
)

// Upstreams are the faults of what agents call: the model server and the tool servers. Requests may fail, hot updates may not.
func Upstreams() []world.Fault {
	return []world.Fault{
		modelFails{"model-429", func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, `{"error": {"message": "slow down"}}`, http.StatusTooManyRequests)
		}},
		modelFails{"model-500", func(w http.ResponseWriter) {
			http.Error(w, `{"error": {"message": "broken"}}`, http.StatusInternalServerError)
		}},
		modelFails{"model-reset", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
		// Not 401: that is an answer, so a change that needs a new connection is refused for it, and its prompt stays (semantics.md 7.3).
		toolsFail{"tools-reset", func(<-chan struct{}) bool { panic(http.ErrAbortHandler) }},
		toolsFail{"tools-hang", func(healed <-chan struct{}) bool {
			<-healed
			return true
		}},
		storm{},
	}
}

// modelFails lets every call of the model server fail in one way.
type modelFails struct {
	name   string
	answer func(http.ResponseWriter)
}

// Name implements world.Fault.
func (f modelFails) Name() string { return f.name }

// Needs implements world.Fault.
func (modelFails) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (f modelFails) Inject(_ context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, 3*time.Second, 5*time.Second)
	var times atomic.Int64
	w.Model.Fail(func(rw http.ResponseWriter) {
		times.Add(1)
		f.answer(rw)
	})
	return world.Injected{
		What: fmt.Sprintf("every model call ends in %s, for %s", f.name, hold), Hold: hold, Excused: w.Agents,
		Heal: func(context.Context) error {
			w.Model.Fail(nil)
			return nil
		},
		Fired: func() (int64, error) { return times.Load(), nil },
	}, nil
}

// toolsFail lets every tool server break off, or hang.
type toolsFail struct {
	name  string
	admit func(healed <-chan struct{}) bool
}

// Name implements world.Fault.
func (f toolsFail) Name() string { return f.name }

// Needs implements world.Fault.
func (toolsFail) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (f toolsFail) Inject(_ context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, 3*time.Second, 5*time.Second)
	var times atomic.Int64
	healed := make(chan struct{})
	for _, t := range w.Tools {
		t.Guard(func(http.Header) bool {
			times.Add(1)
			return f.admit(healed)
		})
	}
	return world.Injected{
		What: fmt.Sprintf("every call of a tool server ends in %s, for %s", f.name, hold), Hold: hold, Excused: w.Agents,
		Heal: func(context.Context) error {
			for _, t := range w.Tools {
				t.Guard(nil)
			}
			close(healed)
			return nil
		},
		Fired: func() (int64, error) { return times.Load(), nil },
	}, nil
}

// storm lets every tool server say again and again that its list of tools changed, as it does.
type storm struct{}

// Name implements world.Fault.
func (storm) Name() string { return "tools-list-changed-storm" }

// Needs implements world.Fault.
func (storm) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (storm) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	const times = 300
	pause := time.NewTicker(between(r, 5*time.Millisecond, 15*time.Millisecond))
	defer pause.Stop()
	for i := range times {
		for _, t := range w.Tools {
			t.Redefine("storm", fmt.Sprintf("Take %d of a tool that nobody may call.", i))
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return world.Injected{}, ctx.Err()
		}
	}
	return world.Injected{What: fmt.Sprintf("every tool server changed its tools %d times", times)}, nil
}

var (
	_ world.Fault = modelFails{}
	_ world.Fault = toolsFail{}
	_ world.Fault = storm{}
)
