package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/agentry/agentry/agentd/assembler"
	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/door/admindoor"
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
	mux := http.NewServeMux()
	mux.Handle("/v1/", d.open(openai))
	for _, p := range admindoor.Patterns() {
		mux.Handle(p, admin)
	}
	return rpc.NewHTTPServer(rpc.HTTPConfig{Logger: d.log, Handler: mux}), nil
}

// open lets requests in unless the process ends or the config closes the door (expose.openai).
func (d *daemon) open(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case d.ending.Load():
			refuse(w, http.StatusServiceUnavailable, "shutting_down", "this instance is shutting down")
		case !d.assembler.Doors():
			refuse(w, http.StatusNotFound, "not_exposed", "this agent's spec does not expose this door")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": message, "type": "agentry_error", "code": code}})
}

// serve answers until Shutdown or Close.
func serve(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
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
