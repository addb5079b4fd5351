package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// server is one system under measurement.
type server interface {
	process() int
	at() place
	// change makes one change to the agents of a scope ("all", "solo", "refuser") and answers when it is written.
	change(ctx context.Context, scope string) error
	close()
}

// place is where a server is reached, and whether by mutual TLS; profiles is the host:port of its pprof.
type place struct {
	push, profiles string
	tls            bool
}

// The scopes of a change.
const scopeAll = "all"

// result is one system's line of the frozen document, and what only the table shows.
type result struct {
	Name        string  `json:"name"`
	LastACK     float64 `json:"last_ack_ms"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	CPU         float64 `json:"cpu_us_per_instance"`
	RSS         float64 `json:"rss_kb_per_instance"`
	Single      float64 `json:"single_p50_ms"`
	ResumeBytes int64   `json:"resume_bytes"`
	RefusedSent int64   `json:"refused_sent"`
	// All come back at once: with TLS sessions to resume, and without.
	Reconnect    float64 `json:"reconnect_ms"`
	ReconnectCPU float64 `json:"reconnect_cpu_us_per_instance"`
	Anew         float64 `json:"reconnect_full_ms"`
	AnewCPU      float64 `json:"reconnect_full_cpu_us_per_instance"`
	write        float64 // of a change to all, ms
	singleWrite  float64
	rounds       []float64
	live, stacks float64 // KB of heap and stacks per instance after a garbage collection
	// What a change to all takes of the clients' process, µs per instance: the part of the time that no server answers for.
	clientCPU float64
}

// apart keeps single changes from counting as churn, which our control plane merges (push-protocol.md rule 11).
const apart = 50 * time.Millisecond

// warmups are the changes before those that count.
const warmups = 3

// measureOne starts one system and its clients, measures, and ends both. content is what the servers to compare with send.
func measureOne(ctx context.Context, o options, name, dir string, content []byte) (result, []byte, error) {
	r := result{Name: name}
	srv, err := startServer(ctx, o, name, dir, content)
	if err != nil {
		return r, nil, err
	}
	defer srv.close()
	empty, err := settled(ctx, srv.process())
	if err != nil {
		return r, nil, err
	}
	clients, err := startClients(o, name, srv)
	if err != nil {
		return r, nil, err
	}
	defer clients.close()
	opened, err := clients.ask(command{Op: "open"})
	if err != nil {
		return r, nil, err
	}
	for range warmups {
		if _, err := clients.round(ctx, srv, scopeAll); err != nil {
			return r, nil, err
		}
		if err := quiet(ctx, srv.process()); err != nil {
			return r, nil, err
		}
	}
	if err := r.fanOut(ctx, o, srv, clients); err != nil {
		return r, nil, err
	}
	full, err := settled(ctx, srv.process())
	if err != nil {
		return r, nil, err
	}
	r.RSS = (full - empty) / float64(o.n)
	if err := r.memory(ctx, o, srv); err != nil {
		return r, nil, err
	}
	if err := r.single(ctx, o, srv, clients); err != nil {
		return r, nil, err
	}
	if err := r.refuse(ctx, srv, clients); err != nil {
		return r, nil, err
	}
	if o.reconnects > 0 {
		if err := r.reconnect(ctx, o, srv, clients); err != nil {
			return r, nil, err
		}
	}
	return r, opened.Content, nil
}

// reconnect has all instances leave and come back at once: until the last has confirmed what it runs, and what that cost the server.
// What their leaving costs isn't in it.
func (r *result) reconnect(ctx context.Context, o options, srv server, clients *clients) error {
	back := func(way string) (took, cpu float64, bytes int64, err error) {
		var times, costs []float64
		for i := range o.reconnects + 1 {
			if _, err := clients.ask(command{Op: "leave", Scope: way}); err != nil {
				return 0, 0, 0, err
			}
			if err := quiet(ctx, srv.process()); err != nil {
				return 0, 0, 0, err
			}
			before, err := cpuOf(srv.process())
			if err != nil {
				return 0, 0, 0, err
			}
			began := now()
			reply, err := clients.ask(command{Op: "return"})
			if err != nil {
				return 0, 0, 0, err
			}
			after, err := cpuOf(srv.process())
			if err != nil {
				return 0, 0, 0, err
			}
			bytes = reply.Bytes
			if i == 0 {
				continue // the sessions to resume are made by it
			}
			times = append(times, float64(time.Duration(reply.Last)-began)/float64(time.Millisecond))
			costs = append(costs, float64((after-before).Nanoseconds())/1e3/float64(o.n))
		}
		return median(times), median(costs), bytes, nil
	}
	var err error
	if r.Anew, r.AnewCPU, _, err = back(wayAnew); err != nil {
		return err
	}
	profile, err := startProfile(ctx, o, r.Name+".reconnect", srv)
	if err != nil {
		return err
	}
	if r.Reconnect, r.ReconnectCPU, r.ResumeBytes, err = back(wayResumed); err != nil {
		return err
	}
	return profile()
}

// fanOut measures changes to all.
func (r *result) fanOut(ctx context.Context, o options, srv server, clients *clients) error {
	profile, err := startProfile(ctx, o, r.Name, srv)
	if err != nil {
		return err
	}
	var last, p50, p99, cpu, clientCPU, write []float64
	for range o.rounds {
		before, err := cpuOf(srv.process())
		if err != nil {
			return err
		}
		idle, err := cpuOf(clients.process())
		if err != nil {
			return err
		}
		t, err := clients.round(ctx, srv, scopeAll)
		if err != nil {
			return err
		}
		if err := quiet(ctx, srv.process()); err != nil {
			return err
		}
		after, err := cpuOf(srv.process())
		if err != nil {
			return err
		}
		busy, err := cpuOf(clients.process())
		if err != nil {
			return err
		}
		last, p50, p99 = append(last, t.last), append(p50, t.p50), append(p99, t.p99)
		write, cpu = append(write, t.write), append(cpu, float64((after-before).Nanoseconds())/1e3/float64(o.n))
		clientCPU = append(clientCPU, float64((busy-idle).Nanoseconds())/1e3/float64(o.n))
	}
	r.rounds = slices.Clone(last)
	r.LastACK, r.P50, r.P99, r.CPU, r.write = median(last), median(p50), median(p99), median(cpu), median(write)
	r.clientCPU = median(clientCPU)
	return profile()
}

// single measures changes to one agent with one instance while all others idle.
func (r *result) single(ctx context.Context, o options, srv server, clients *clients) error {
	var took, write []float64
	for range o.singles {
		if err := pause(ctx, apart); err != nil {
			return err
		}
		t, err := clients.round(ctx, srv, soloAgent)
		if err != nil {
			return err
		}
		took, write = append(took, t.last), append(write, t.write)
	}
	r.Single, r.singleWrite = median(took), median(write)
	return nil
}

// refuse counts how often a version that is refused is sent within three seconds.
func (r *result) refuse(ctx context.Context, srv server, clients *clients) error {
	if _, err := clients.ask(command{Op: "refuse"}); err != nil {
		return err
	}
	if err := srv.change(ctx, refuserAgent); err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	a, err := clients.ask(command{Op: "refused"})
	r.RefusedSent = a.Sent
	return err
}

// memory reads live heap and stacks after a garbage collection from the server's heap profile.
func (r *result) memory(ctx context.Context, o options, srv server) error {
	b, err := fetch(ctx, "http://"+srv.at().profiles+"/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		var v float64
		if _, err := fmt.Sscanf(line, "# HeapAlloc = %g", &v); err == nil {
			r.live = v / 1024 / float64(o.n)
		}
		if _, err := fmt.Sscanf(line, "# Stack = %g", &v); err == nil {
			r.stacks = v / 1024 / float64(o.n)
		}
	}
	if o.profiles == "" {
		return nil
	}
	if b, err = fetch(ctx, "http://"+srv.at().profiles+"/debug/pprof/heap"); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.profiles, r.Name+".heap.pprof"), b, 0o600)
}

// startProfile takes a CPU profile until the function that it gives is called, where profiles are asked for.
func startProfile(ctx context.Context, o options, name string, srv server) (func() error, error) {
	if o.profiles == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(filepath.Join(o.profiles, name+".cpu.pprof")) //nolint:gosec // G304: the folder that was asked for
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		b, err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", srv.at().profiles, max(2, o.rounds)))
		if err == nil {
			_, err = f.Write(b)
		}
		done <- err
	}()
	return func() error {
		defer func() { _ = f.Close() }()
		return <-done
	}, nil
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// quiet waits until a server has used less than 2 % of a core for 200 ms: the answers and all that follows them are handled.
func quiet(ctx context.Context, pid int) error {
	const step = 200 * time.Millisecond
	before, err := cpuOf(pid)
	if err != nil {
		return err
	}
	for range 100 {
		if err := pause(ctx, step); err != nil {
			return err
		}
		after, err := cpuOf(pid)
		if err != nil {
			return err
		}
		if after-before < step/50 {
			return nil
		}
		before = after
	}
	return nil // it never rests: what it does counts
}

// still is for how many looks in a row memory must not fall: the control plane records what was applied some seconds after a burst, and
// gives memory back a second after that.
const still = 14

// settled gives the resident memory once it no longer falls: the runtime gives back for a while after a burst.
func settled(ctx context.Context, pid int) (float64, error) {
	low, err := rssOf(pid)
	if err != nil {
		return 0, err
	}
	for n := 0; n < still; n++ {
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return 0, err
		}
		kb, err := rssOf(pid)
		if err != nil {
			return 0, err
		}
		if kb < low*0.99 {
			n = -1
		}
		low = min(low, kb)
	}
	return low, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// median gives 0 where nothing was measured.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	if len(v)%2 == 1 {
		return v[len(v)/2]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}
