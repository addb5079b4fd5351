package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/test/harness"
)

// Three control planes keep one store together. Each in turn is killed while prompts are applied: what was acknowledged is there at all
// of them in the end, and the one that was killed comes back alone.
func TestEmbeddedClusterLosesNothing(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	members, err := env.StartCluster(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	var apis []harness.API
	for _, m := range members {
		api, err := m.API()
		if err != nil {
			t.Fatal(err)
		}
		apis = append(apis, api)
	}
	var (
		mu      sync.Mutex // guards what follows
		acked   []string
		slowest time.Duration
	)
	writing, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := 0; writing.Err() == nil; i++ {
			name := fmt.Sprintf("p%05d", i)
			files := harness.Files{"prompts/" + name + ".json": fmt.Sprintf(`{"promptKey": %q, "version": "1.0.0", "template": "x"}`, name)}
			began := time.Now()
			for try := i; writing.Err() == nil; try++ {
				ctx, cancel := context.WithTimeout(writing, 10*time.Second)
				_, err := apis[try%len(apis)].Apply(ctx, files)
				cancel()
				if err == nil {
					mu.Lock()
					acked = append(acked, name)
					slowest = max(slowest, time.Since(began))
					mu.Unlock()
					break
				}
			}
		}
	})
	written := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acked)
	}
	more := func(what string) {
		t.Helper()
		before := written()
		eventually(t, 30*time.Second, func(context.Context) error {
			if n := written(); n < before+10 {
				return fmt.Errorf("%s: %d writes more", what, n-before)
			}
			return nil
		})
	}
	more("all members")
	for i, m := range members {
		m.Kill()
		more(fmt.Sprintf("without member %d", i))
		if err := m.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		more(fmt.Sprintf("with member %d again", i))
	}
	stop()
	writer.Wait()
	for i, api := range apis {
		eventually(t, 10*time.Second, func(ctx context.Context) error { return missing(ctx, api, acked, i) })
	}
	t.Logf("%d acknowledged writes, the slowest after %s", len(acked), slowest.Round(time.Millisecond))
}

// missing tells of prompts that a replica doesn't have.
func missing(ctx context.Context, api harness.API, want []string, replica int) error {
	there := map[string]bool{}
	for page := ""; ; {
		resp, err := api.Spec.List(ctx, connect.NewRequest(&specv1.ListRequest{Namespace: "default", Kind: "prompt", PageToken: page}))
		if err != nil {
			return err
		}
		for _, o := range resp.Msg.GetObjects() {
			there[o.GetName()] = true
		}
		if page = resp.Msg.GetNextPageToken(); page == "" {
			break
		}
	}
	for _, name := range want {
		if !there[name] {
			return fmt.Errorf("replica %d doesn't have %s (%d of %d)", replica, name, len(there), len(want))
		}
	}
	return nil
}
