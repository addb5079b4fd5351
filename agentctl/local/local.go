// Package local runs a folder of agents on one machine for `agentctl up`: a control plane with an embedded etcd, one agentd per
// instance, the scripted model server where no model is configured, Redis where an agent's memory names one on this machine that isn't
// there, and what the folder's up.yaml asks for. It plans, starts, applies
// once, waits until every agent is ready, and stops everything when its context ends. It changes nothing in the folder.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/agentctl/supervise"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
)

// Agent is what the plan must know of one agent.
type Agent struct {
	Namespace string // "" means default
	Name      string
	// HasModel is true when its spec names a model endpoint.
	HasModel bool
	// Redis is where its memory is kept; a redis-server is started where that is on this machine and nothing listens.
	Redis Redis
}

// Config says what to run. Dir, Files, Agents, DataDir, Stdout and Log are needed.
type Config struct {
	Dir    string
	Files  []*specv1.File
	Agents []Agent
	// Instances per agent name; absent: 1.
	Instances map[string]int
	DataDir   string
	// PortBase 0 chooses free ports; else the people door is on it, the runtime door on the next, agents on those after.
	PortBase     int
	InfoFile     string
	ModelBaseURL string
	// EgressAllow and ProbeAllow are what agentd and the control plane may connect to beyond public addresses.
	EgressAllow, ProbeAllow string
	Script                  string
	Open                    bool
	Stdout                  io.Writer // the line that begins with "ready"
	Log                     io.Writer // everything else
}

// UsageError is a fault in what the caller asked for.
type UsageError struct {
	Hint string
	err  error
}

// Error names the fault.
func (e *UsageError) Error() string { return e.err.Error() }

// Unwrap gives what was wrapped.
func (e *UsageError) Unwrap() error { return e.err }

func usage(hint, format string, args ...any) error {
	return &UsageError{Hint: hint, err: fmt.Errorf(format, args...)}
}

// Run starts everything and stays until ctx ends, then stops everything and answers nil. An error means that it could not be made
// ready; everything is stopped then, too.
func Run(ctx context.Context, cfg Config) error {
	extras, err := readExtras(cfg.Dir)
	if err != nil {
		return err
	}
	p, err := newPlan(ctx, cfg, extras)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	s := &stack{cfg: cfg, plan: p, sup: supervise.New(cfg.Log)}
	return s.run(ctx)
}

// stack is what runs.
type stack struct {
	cfg  Config
	plan plan
	sup  *supervise.Supervisor
}

func (s *stack) run(ctx context.Context) error {
	if s.plan.script != nil {
		stop := s.plan.script.serve(ctx)
		defer stop()
		s.sup.Say("scripted model server (answers come from %s, not from a language model) at %s", s.plan.script.source, s.plan.script.url)
	}
	for _, note := range s.plan.notes {
		s.sup.Say("%s", note)
	}
	for _, r := range s.plan.redis {
		if err := r.write(); err != nil {
			return err
		}
	}
	// Stopped in this order: agents, then the control plane, then what they call.
	extras := s.group(ctx, s.plan.extras)
	defer extras.stop()
	controlPlane := s.group(ctx, []supervise.Process{s.plan.controlPlane})
	defer controlPlane.stop()
	if err := s.waitControlPlane(ctx, controlPlane); err != nil {
		return endOf(ctx, err)
	}
	for _, e := range s.plan.waitFor {
		if err := s.waitListening(ctx, e, extras); err != nil {
			return endOf(ctx, err)
		}
	}
	if err := s.apply(ctx); err != nil {
		return endOf(ctx, err)
	}
	if err := s.join(ctx); err != nil {
		return endOf(ctx, err)
	}
	agents := s.group(ctx, s.plan.agentProcesses())
	defer agents.stop()
	if err := s.waitReady(ctx, agents); err != nil {
		return endOf(ctx, err)
	}
	if err := s.announce(ctx); err != nil {
		return err
	}
	return s.stay(ctx, extras, controlPlane, agents)
}

// stay keeps the info file true until ctx ends or a child can't be started any more.
func (s *stack) stay(ctx context.Context, groups ...*group) error {
	failed := make(chan error, len(groups))
	var watch sync.WaitGroup
	for _, g := range groups {
		watch.Go(func() {
			select {
			case <-ctx.Done():
			case err := <-g.failed:
				failed <- err
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			watch.Wait()
			s.sup.Say("stopping")
			return nil
		case err := <-failed:
			return err
		case <-s.sup.Changed():
			if err := s.writeInfo(); err != nil {
				return err
			}
		}
	}
}

// endOf hides the error of a wait that only ended because the user did.
func endOf(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// group is a set of children that are stopped together. Its context does not end with the caller's: stop ends it, in order.
type group struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	failed chan error
}

func (s *stack) group(ctx context.Context, processes []supervise.Process) *group {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g := &group{cancel: cancel, failed: make(chan error, len(processes))}
	for _, p := range processes {
		g.wg.Go(func() {
			if err := s.sup.Run(own, p); err != nil {
				g.failed <- err
			}
		})
	}
	return g
}

func (g *group) stop() {
	g.cancel()
	g.wg.Wait()
}

// findBinary looks beside the running executable, then on PATH.
func findBinary(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			beside := filepath.Join(filepath.Dir(self), name)
			if st, err := os.Stat(beside); err == nil && !st.IsDir() {
				return beside, nil
			}
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no program %s beside agentctl or on PATH (make build makes it): %w", name, err)
	}
	return filepath.Abs(path)
}

// poll calls f every 20 ms until it answers nil, ctx ends or g fails; say is called with the newest error every 3 s.
func poll(ctx context.Context, g *group, f func(context.Context) error, say func(error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	told := time.Now()
	for {
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := f(call)
		cancel()
		if fatal := (*fatalError)(nil); err == nil || errors.As(err, &fatal) {
			return err
		}
		if say != nil && time.Since(told) > 3*time.Second {
			told = time.Now()
			say(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-g.failed:
			return err
		case <-tick.C:
		}
	}
}

// fatalError ends a poll.
type fatalError struct{ error }

func agentNames(agents []Agent) string {
	var names []string
	for _, a := range agents {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
