package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/agentry/agentry/agentd/assembler"
	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/door/admindoor"
	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/door/openaidoor"
	"github.com/agentry/agentry/agentd/identity"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/version"
)

// server makes the one HTTP server with every door.
func (d *daemon) server() (*http.Server, error) {
	openai, err := openaidoor.New(openaidoor.Config{Runner: d.runner, Propagator: d.tracing.Propagator})
	if err != nil {
		return nil, err
	}
	admin, err := admindoor.New(admindoor.Config{Ready: d.ready, Dump: d.dump, Drain: d.drain, Metrics: d.metrics(), Log: d.log})
	if err != nil {
		return nil, err
	}
	guard, err := front.New(front.Config{Source: d.runner})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", d.open(guard, openai, openai.Refuse))
	if err := d.mount(mux, guard); err != nil {
		return nil, err
	}
	for _, p := range admindoor.Patterns() {
		mux.Handle(p, admin)
	}
	mux.Handle("GET /metrics", fromElsewhere(guard.Guard(admin, refusePlain), admin))
	settings, err := d.tls()
	if err != nil {
		return nil, err
	}
	return rpc.NewHTTPServer(rpc.HTTPConfig{Logger: d.log, Handler: mux, TLS: settings}), nil
}

// open lets to a door what the front admits, unless the process ends. refuse is the door's way to say no.
func (d *daemon) open(guard *front.Front, next http.Handler, refuse front.Refuse) http.Handler {
	guarded := guard.Guard(next, refuse)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.ending.Load() {
			refuse(w, r, front.Refusal{Status: http.StatusServiceUnavailable, Code: "shutting_down", Message: "this instance is shutting down"})
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

// fromElsewhere serves callers of other machines otherwise than those of this one.
func fromElsewhere(elsewhere, here http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && peer.Addr().Unmap().IsLoopback() {
			here.ServeHTTP(w, r)
			return
		}
		elsewhere.ServeHTTP(w, r)
	})
}

func refusePlain(w http.ResponseWriter, _ *http.Request, r front.Refusal) {
	http.Error(w, r.Message, r.Status)
}

// serve answers until Shutdown or Close.
func serve(s *http.Server, l net.Listener) error {
	open := s.Serve
	if s.TLSConfig != nil {
		open = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	if err := open(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// end waits until ctx ends, finishes the running requests, closes the door and then stops the other parts. gctx ends early
// when a part broke.
func (d *daemon) end(ctx, gctx context.Context, s *http.Server, stop func()) error {
	select {
	case <-ctx.Done():
	case <-gctx.Done():
	}
	defer stop()
	d.draining.Store(true)
	d.ending.Store(true)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.DrainTimeout)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for limit.Err() == nil && gctx.Err() == nil && d.runner.InFlight() > 0 {
		select {
		case <-look.C:
		case <-limit.Done():
		case <-gctx.Done():
		}
	}
	closing, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer done()
	if err := s.Shutdown(closing); err != nil {
		return s.Close() // what overstayed is cut off
	}
	return nil
}

// dump is what /admin/config shows.
func (d *daemon) dump() any {
	type loaded struct {
		Instance  string                 `json:"instance"`
		Namespace string                 `json:"namespace"`
		Agent     string                 `json:"agent"`
		Version   string                 `json:"agentdVersion"`
		Client    configclient.Status    `json:"controlPlane"`
		Identity  identity.Status        `json:"identity"`
		Loaded    *assembler.Description `json:"loaded"` // null: nothing runs
	}
	out := loaded{
		Instance: d.state.Instance(), Namespace: d.cfg.Namespace, Agent: d.cfg.Agent, Version: version.String(),
		Client: d.client.Status(), Identity: d.identity.Status(),
	}
	if desc, ok := d.assembler.Describe(); ok {
		out.Loaded = &desc
	}
	return out
}

// beats collects what the stream's beats tell. One goroutine uses it.
type beats struct {
	runner    *run.Runner
	assembler *assembler.Assembler
	told      map[string]string // resource -> what was told last
}

func (b *beats) next(first bool) configclient.Beat {
	out := configclient.Beat{InFlight: b.runner.InFlight()}
	for _, u := range b.runner.TakeUsage() {
		out.Usage = append(out.Usage, configclient.Usage{
			Config: u.Config, Requests: u.Requests, Errors: u.Errors, Latency: slices.Clone(u.Latency[:]),
			InputTokens: u.InputTokens, OutputTokens: u.OutputTokens,
		})
	}
	if first || b.told == nil {
		b.told = map[string]string{}
	}
	desc, _ := b.assembler.Describe()
	for _, s := range desc.Servers {
		dep := dependency(s)
		key := fmt.Sprintf("%+v", dep)
		if b.told[dep.Resource] != key {
			b.told[dep.Resource] = key
			out.Dependencies = append(out.Dependencies, dep)
		}
	}
	return out
}

func dependency(s assembler.ServerDescription) configclient.Dependency {
	dep := configclient.Dependency{Resource: manifest.KindMCP + "/" + s.Name, Healthy: s.Healthy, Message: s.Message}
	for _, t := range s.Tools {
		var h manifest.Hash
		_ = h.UnmarshalText([]byte(t.Definition)) // an odd digest is told as none
		dep.Tools = append(dep.Tools, configclient.DependencyTool{Name: t.Name, Description: t.Description, Definition: h})
	}
	return dep
}

// info is the shape of --info-file.
type info struct {
	Address  string `json:"address"`
	Instance string `json:"instance"`
	PID      int    `json:"pid"`
}

// writeInfo renames the file into place, so that a reader sees all of it or nothing.
func writeInfo(path string, i info) (err error) {
	if path == "" {
		return nil
	}
	b, err := json.Marshal(i)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".info-*")
	if err != nil {
		return fmt.Errorf("info file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = io.WriteString(f, string(b)+"\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("info file: %w", err)
	}
	return nil
}
