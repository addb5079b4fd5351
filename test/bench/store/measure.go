package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/test/harness"
)

const (
	gets    = 2000
	pages   = 20
	deletes = 50
)

// bench is one measurement under way.
type bench struct {
	o   options
	cp  *harness.ControlPlane
	api harness.API
	out io.Writer
	rng *rand.Rand
	// pprof is the address of the profiles; "" for none.
	pprof string
}

func (b *bench) row(what, format string, args ...any) {
	fmt.Fprintf(b.out, "| %-58s | %s |\n", what, fmt.Sprintf(format, args...))
}

// measureAt starts a control plane on the filled store and measures it.
func measureAt(ctx context.Context, env *harness.Env, o options, out io.Writer) error {
	args := []string{"--log-level", "warn"}
	pprof := ""
	if o.profiles != "" {
		var err error
		if pprof, err = harness.FreeAddr(); err != nil {
			return err
		}
		args = append(args, "--pprof-addr", pprof)
	}
	began := time.Now()
	cp, err := env.StartControlPlane(ctx, args...)
	for range 2 { // a large store on a busy machine takes longer than the harness waits
		if err != nil && cp.Proc != nil && cp.Running() {
			err = cp.WaitReady(ctx)
		}
	}
	if err != nil {
		return err
	}
	ready := time.Since(began)
	b := &bench{o: o, cp: cp, out: out, pprof: pprof, rng: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // the same choice in every run
	if b.api, err = cp.API(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n| %d agents x %d revisions, %d prompts, %d MCP entries | %s |\n|---|---|\n", o.agents, o.revisions, o.prompts, o.mcp, o.label)
	b.row("start to ready, s", "%.2f", ready.Seconds())
	if cpu, err := b.cpu(); err == nil {
		b.row("CPU of the start, s", "%.2f", cpu.Seconds())
	}
	for _, step := range []func(context.Context) error{
		b.memory, b.get, b.list, b.watch, b.apply, b.promptMove, b.status, b.watchStatus, b.delete, b.history, b.memory,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := b.keepProfile(ctx, "heap", "heap?gc=1"); err != nil {
		return err
	}
	return b.cp.Stop(20 * time.Second)
}

func (b *bench) memory(context.Context) error {
	rss, err := procKB(b.cp.PID(), "VmRSS:")
	if err != nil {
		return err
	}
	anon, err := procKB(b.cp.PID(), "RssAnon:")
	if err != nil {
		return err
	}
	b.row("RSS, of it not the database's pages, MB", "%.0f, %.0f", rss/1024, anon/1024)
	return nil
}

func (b *bench) get(ctx context.Context) error {
	took, err := b.times(gets, func(int) error {
		_, err := b.api.Spec.Get(ctx, connect.NewRequest(&specv1.GetRequest{Kind: "agent", Name: agentName(b.rng.IntN(b.o.agents))}))
		return err
	})
	b.row("get of an agent, p50 / p99 ms", "%s", spread(took))
	return err
}

func (b *bench) list(ctx context.Context) error {
	took, err := b.times(pages, func(int) error {
		_, err := b.api.Spec.List(ctx, connect.NewRequest(&specv1.ListRequest{Kind: "agent", PageSize: 500}))
		return err
	})
	if err != nil {
		return err
	}
	b.row("list of one page of 500, p50 / p99 ms", "%s", spread(took))
	began, n, token := time.Now(), 0, ""
	for {
		resp, err := b.api.Spec.List(ctx, connect.NewRequest(&specv1.ListRequest{Kind: "agent", PageSize: 500, PageToken: token}))
		if err != nil {
			return err
		}
		n += len(resp.Msg.GetObjects())
		if token = resp.Msg.GetNextPageToken(); token == "" {
			break
		}
	}
	if n != b.o.agents {
		return fmt.Errorf("the list has %d agents, want %d", n, b.o.agents)
	}
	b.row("list of all, paged, ms", "%.0f", ms(time.Since(began)))
	return nil
}

// watch is the present objects, then how long after the answer of an apply its event is there.
func (b *bench) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	w, err := b.api.Spec.Watch(ctx, connect.NewRequest(&specv1.WatchRequest{Kind: "agent"}))
	if err != nil {
		return err
	}
	var first time.Duration
	for n := 0; w.Receive(); n++ {
		if n == 0 {
			first = time.Since(began)
		}
		if w.Msg().GetType() == "bookmark" {
			b.row("watch: first object / all present ones, ms", "%.1f / %.0f", ms(first), ms(time.Since(began)))
			break
		}
	}
	took, err := b.times(20, func(i int) error {
		began := time.Now()
		if err := b.applyOne(ctx, i, "watched "+began.String()); err != nil {
			return err
		}
		if !w.Receive() {
			return errors.Join(errors.New("the watch ended"), w.Err())
		}
		return nil
	})
	b.row("apply to its watch event, p50 / p99 ms", "%s", spread(took))
	cancel()
	_ = w.Close()
	return err
}

func (b *bench) applyOne(ctx context.Context, i int, what string) error {
	files := harness.Files{}
	agentFiles(files, b.o.size, i, what)
	_, err := b.api.Apply(ctx, files)
	return err
}

func (b *bench) apply(ctx context.Context) error {
	before, err := b.cpu()
	if err != nil {
		return err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- b.keepProfile(ctx, "apply", "profile?seconds=2") }()
	took, err := b.times(b.o.applies, func(i int) error { return b.applyOne(ctx, i%b.o.agents, "applied once more "+strconv.Itoa(i)) })
	if err != nil {
		return err
	}
	if err := <-profiled; err != nil {
		return err
	}
	after, err := b.cpu()
	b.row("apply of one agent, p50 / p99 ms", "%s", spread(took))
	b.row(fmt.Sprintf("CPU of one of %d applies, ms", b.o.applies), "%.2f", ms(after-before)/float64(b.o.applies))
	return err
}

// keepProfile writes one of the process's profiles to the folder of profiles, if there is one.
func (b *bench) keepProfile(ctx context.Context, name, what string) error {
	if b.pprof == "" {
		return nil
	}
	code, body, err := harness.Get(ctx, "http://"+b.pprof+"/debug/pprof/"+what)
	if err != nil || code != 200 {
		return errors.Join(err, fmt.Errorf("profile %s: %d", what, code))
	}
	return os.WriteFile(filepath.Join(b.o.profiles, name+".pb.gz"), []byte(body), 0o600)
}

// promptMove publishes a new version of one prompt.
func (b *bench) promptMove(ctx context.Context) error {
	took, err := b.times(50, func(i int) error {
		_, err := b.api.Apply(ctx, harness.Files{"prompts/p.json": fmt.Sprintf(`{"promptKey": %q, "version": "1.1.%d", "template": "another"}`, promptName(0), i)})
		return err
	})
	b.row("apply of one prompt, p50 / p99 ms", "%s", spread(took))
	return err
}

func (b *bench) status(ctx context.Context) error {
	for _, what := range []string{"list of all statuses, first, ms, and CPU ms", "list of all statuses, again, ms, and CPU ms"} {
		before, err := b.cpu()
		if err != nil {
			return err
		}
		began := time.Now()
		resp, err := b.api.Status.ListStatus(ctx, connect.NewRequest(&releasev1.ListStatusRequest{}))
		if err != nil {
			return err
		}
		if len(resp.Msg.GetStatuses()) != b.o.agents {
			return fmt.Errorf("%d statuses, want %d", len(resp.Msg.GetStatuses()), b.o.agents)
		}
		took := time.Since(began)
		after, err := b.cpu()
		if err != nil {
			return err
		}
		b.row(what, "%.0f, %.0f", ms(took), ms(after-before))
	}
	return nil
}

// watchStatus is what a watch of all statuses costs while nothing happens.
func (b *bench) watchStatus(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := b.api.Status.WatchStatus(ctx, connect.NewRequest(&releasev1.WatchStatusRequest{}))
	if err != nil {
		return err
	}
	began := time.Now()
	for range b.o.agents {
		if !w.Receive() {
			return errors.Join(errors.New("the status watch ended"), w.Err())
		}
	}
	b.row("watch of all statuses: all present ones, ms", "%.0f", ms(time.Since(began)))
	before, err := b.cpu()
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.o.watch):
	}
	after, err := b.cpu()
	b.row("CPU with one idle watch of all statuses, % of a core", "%.1f", 100*(after-before).Seconds()/b.o.watch.Seconds())
	cancel()
	_ = w.Close()
	return err
}

func (b *bench) delete(ctx context.Context) error {
	took, err := b.times(min(deletes, b.o.agents/2), func(i int) error {
		_, err := b.api.Spec.Delete(ctx, connect.NewRequest(&specv1.DeleteRequest{Kind: "agent", Name: agentName(b.o.agents - 1 - i)}))
		return err
	})
	b.row("delete of an agent, p50 / p99 ms", "%s", spread(took))
	return err
}

// history reads histories, and an old revision's content.
func (b *bench) history(ctx context.Context) error {
	took, err := b.times(200, func(i int) error {
		_, err := b.api.Spec.History(ctx, connect.NewRequest(&specv1.HistoryRequest{Kind: "agent", Name: agentName(i % (b.o.agents / 2))}))
		return err
	})
	if err != nil {
		return err
	}
	b.row("history of an agent, p50 / p99 ms", "%s", spread(took))
	took, err = b.times(200, func(i int) error {
		_, err := b.api.Spec.Get(ctx, connect.NewRequest(&specv1.GetRequest{Kind: "agent", Name: agentName(i % (b.o.agents / 2)), Version: "1"}))
		return err
	})
	b.row("get of an old revision, p50 / p99 ms", "%s", spread(took))
	return err
}

// times runs f n times and gives how long each took, sorted.
func (b *bench) times(n int, f func(int) error) ([]time.Duration, error) {
	var out []time.Duration
	for i := range n {
		began := time.Now()
		if err := f(i); err != nil {
			return out, err
		}
		out = append(out, time.Since(began))
	}
	slices.Sort(out)
	return out, nil
}

func spread(sorted []time.Duration) string {
	if len(sorted) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f / %.2f", ms(sorted[len(sorted)/2]), ms(sorted[min(len(sorted)-1, len(sorted)*99/100)]))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// cpu gives what the control plane used so far; the kernel counts in hundredths of a second.
func (b *bench) cpu() (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cp.PID()))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	var sum time.Duration
	for _, f := range fields[11:13] { // user and system time
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum, nil
}

// procKB reads a value in kB from a process's status.
func procKB(pid int, key string) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strconv.ParseFloat(strings.Fields(rest)[0], 64)
		}
	}
	return 0, fmt.Errorf("no %s of process %d", key, pid)
}
