package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	"github.com/agentry/agentry/test/harness"
	"github.com/agentry/agentry/test/harness/herd"
)

// shared compares a change of one prompt that all agents share with one of a prompt of one agent, to as many instances.
func (s *scene) shared(ctx context.Context) error {
	one, err := s.herd("one", s.o.n, soloAgent)
	if err != nil {
		return err
	}
	if _, _, err := s.pushes(ctx, soloAgent, one, warmups); err != nil {
		return err
	}
	single, _, err := s.pushes(ctx, soloAgent, one, s.o.rounds)
	if err != nil {
		return err
	}
	one.Close()
	many, err := s.herd("many", s.o.n, s.agents()...)
	if err != nil {
		return err
	}
	if _, _, err := s.pushes(ctx, scopeAll, many, warmups); err != nil {
		return err
	}
	var last []float64
	most := 0.0
	for range s.o.rounds {
		before, err := s.rests(ctx)
		if err != nil {
			return err
		}
		t, err := s.push(ctx, scopeAll, many)
		if err != nil {
			return err
		}
		after, err := s.cp.Metric(ctx, "agentry_view_revision")
		if err != nil {
			return err
		}
		last, most = append(last, t.last), max(most, after-before)
	}
	s.tell("one agent: last APPLIED, ms (median of rounds)", median(single))
	s.tell("all agents: last APPLIED, ms (median of rounds)", median(last))
	s.tell("  ratio, at most 1.5", median(last)/median(single))
	s.tell("store revisions until the last APPLIED (most)", most)
	if most != 1 {
		return fmt.Errorf("%v store revisions", most)
	}
	return nil
}

// labelled is the agent whose prompt follows a label.
const labelled = "labelled"

// latency measures single changes while nothing else happens, beside puts into an etcd of the same kind, then during fan-outs.
func (s *scene) latency(ctx context.Context) error {
	puts, err := etcdstore.OpenEmbedded(ctx, etcdstore.EmbeddedConfig{Dir: filepath.Join(s.env.Dir, "puts")})
	if err != nil {
		return err
	}
	defer func() { _ = puts.Close() }()
	labels, err := s.labels(ctx)
	if err != nil {
		return err
	}
	all, err := s.herd("many", s.o.n, s.agents()...)
	if err != nil {
		return err
	}
	solo, err := s.herd("solo", 1, soloAgent)
	if err != nil {
		return err
	}
	follower, err := s.herd("follower", 1, labelled)
	if err != nil {
		return err
	}
	if _, _, err := s.pushes(ctx, scopeAll, all, warmups); err != nil {
		return err
	}
	if _, err := s.rests(ctx); err != nil {
		return err
	}
	var put, apply, move []float64
	for i := range s.o.singles {
		if err := pause(ctx, apart); err != nil {
			return err
		}
		began := herd.Now()
		if _, err := puts.Commit(ctx, store.Txn{Puts: []store.KV{{Key: "bench", Value: make([]byte, 512)}}}); err != nil {
			return err
		}
		put = append(put, ms(herd.Now()-began))
		if err := pause(ctx, apart); err != nil {
			return err
		}
		t, err := s.push(ctx, soloAgent, solo)
		if err != nil {
			return err
		}
		apply = append(apply, t.last)
		if err := pause(ctx, apart); err != nil {
			return err
		}
		from, err := follower.State()
		if err != nil {
			return err
		}
		began = herd.Now()
		if err := labels(fmt.Sprintf("2.0.%d", i%2)); err != nil {
			return err
		}
		at, err := follower.Above(from.Newest, settleTime)
		if err != nil {
			return err
		}
		move = append(move, ms(at.Last-began))
	}
	busy, write, around, err := s.busy(ctx, all, solo)
	if err != nil {
		return err
	}
	s.tell("etcd put p50, ms", median(put))
	s.tell("apply of one agent -> APPLIED p50, ms", median(apply))
	s.tell("  at most, ms (2 x put + 3)", 2*median(put)+3)
	s.tell("label move -> APPLIED p50, ms", median(move))
	s.tell("  at most, ms (put + 2)", median(put)+2)
	s.tell("apply of one agent during fan-outs, changes", len(busy))
	s.tell("  p50, ms", rank(busy, 0.5))
	s.tell("  p99, ms, at most 100", rank(busy, 0.99))
	s.tell("  of that until the write was answered: p50, ms", rank(write, 0.5))
	s.tell("  of that until the write was answered: p99, ms", rank(write, 0.99))
	s.tell("  the fan-outs: last APPLIED, ms (median)", median(around))
	return nil
}

// labels makes the labelled agent and gives a func that moves its label.
func (s *scene) labels(ctx context.Context) (func(version string) error, error) {
	files := harness.Files{}
	s.agent(files, labelled, labelled)
	files[labelled+"/agent-base.json"] = fmt.Sprintf(`{"promptKey": %q, "promptLabel": "live"}`, labelled)
	client := registryv1connect.NewPromptServiceClient(http.DefaultClient, "http://"+s.cp.People, connect.WithInterceptors(
		connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
			return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
				r.Header().Set("Authorization", "Bearer "+s.secret)
				return next(ctx, r)
			}
		})))
	move := func(version string) error {
		_, err := client.SetLabel(ctx, connect.NewRequest(&registryv1.SetLabelRequest{
			Namespace: "default", Prompt: labelled, Label: "live", Version: version,
		}))
		return err
	}
	for i := range 2 {
		prompt := harness.Files{"prompts/labelled.json": fmt.Sprintf(`{"promptKey": %q, "version": "2.0.%d", "template": "Version %d"}`, labelled, i, i)}
		if _, err := s.api.Apply(ctx, prompt); err != nil {
			return nil, err
		}
	}
	if err := move("2.0.1"); err != nil {
		return nil, err
	}
	_, err := s.api.Apply(ctx, files)
	return move, err
}

// overlaps is how many single changes must begin during fan-outs: with fewer their p99 would be the worst of a handful.
const overlaps = 120

// busy applies single changes while changes to all are under way, in at least as many rounds as are asked for.
func (s *scene) busy(ctx context.Context, all, solo *herd.Herd) (took, write, around []float64, err error) {
	for round := 0; round < s.o.rounds || len(took) < overlaps; round++ {
		if err := quiet(ctx, s.process()); err != nil {
			return nil, nil, nil, err
		}
		done := make(chan error, 1)
		go func() {
			t, err := s.push(ctx, scopeAll, all)
			around = append(around, t.last) // read only after done
			done <- err
		}()
		for going := true; going; {
			t, err := s.push(ctx, soloAgent, solo)
			if err != nil {
				return nil, nil, nil, err
			}
			took, write = append(took, t.last), append(write, t.write) // the fan-out had not ended when it began
			select {
			case err := <-done:
				if err != nil {
					return nil, nil, nil, err
				}
				going = false
			case <-time.After(apart):
			}
		}
	}
	return took, write, around, nil
}
