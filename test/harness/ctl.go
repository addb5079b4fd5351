package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// Out is what one agentctl call answered.
type Out struct {
	Stdout string
	Stderr string
	Code   int
}

// Ctl runs agentctl against cp.
func (e *Env) Ctl(ctx context.Context, cp *ControlPlane, args ...string) (Out, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(e.Bin, "agentctl"), args...) //nolint:gosec // the suite's own binary
	cmd.Env = append(cleanEnv(), "AGENTCTL_SERVER=http://"+cp.People, "AGENTRY_TOKEN_FILE="+cp.TokenFile(), "NO_COLOR=1", "HOME="+e.Dir)
	cmd.Dir = e.Dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := Out{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		out.Code = exit.ExitCode()
		return out, nil
	}
	return out, err
}

// CtlOK runs agentctl and answers an error unless it exits 0.
func (e *Env) CtlOK(ctx context.Context, cp *ControlPlane, args ...string) (string, error) {
	out, err := e.Ctl(ctx, cp, args...)
	if err != nil {
		return "", err
	}
	if out.Code != 0 {
		return out.Stdout, fmt.Errorf("agentctl %v: exit %d: %s%s", args, out.Code, out.Stderr, out.Stdout)
	}
	return out.Stdout, nil
}

// Status is the frozen JSON of `agentctl status NAME -o json`.
type Status struct {
	Agent     string `json:"agent"`
	Namespace string `json:"namespace"`
	Condition string `json:"condition"`
	Revision  struct {
		Desired int64 `json:"desired"`
		Stable  int64 `json:"stable"`
	} `json:"revision"`
	Config        string       `json:"config"`
	LastRefusal   *LastRefusal `json:"lastRefusal"`
	FleetComplete bool         `json:"fleetComplete"`
	Instances     []Instance   `json:"instances"`
}

// LastRefusal is the sticky refusal.
type LastRefusal struct {
	Revision     int64   `json:"revision"`
	Config       string  `json:"config"`
	Instance     string  `json:"instance"`
	Faults       []Fault `json:"faults"`
	At           string  `json:"at"`
	Action       string  `json:"action"`
	RolledBackTo int64   `json:"rolledBackTo"`
}

// Fault is one fault of an instance.
type Fault struct {
	Resource  string `json:"resource"`
	Field     string `json:"field"`
	Code      string `json:"code"`
	Message   string `json:"message"`
	Severity  string `json:"severity"`
	Retryable bool   `json:"retryable"`
}

// Instance is one instance's line.
type Instance struct {
	ID          string  `json:"id"`
	Endpoint    string  `json:"endpoint"`
	Phase       string  `json:"phase"`
	ConfigState string  `json:"configState"`
	Desired     *Ref    `json:"desired"`
	Running     *Ref    `json:"running"`
	Faults      []Fault `json:"faults"`
}

// Ref names a config.
type Ref struct {
	Revision   int64  `json:"revision"`
	Config     string `json:"config"`
	Epoch      uint64 `json:"epoch"`
	Generation int64  `json:"generation"`
	Hash       string `json:"hash"`
}

// Status reads an agent's status.
func (e *Env) Status(ctx context.Context, cp *ControlPlane, agent string) (Status, error) {
	var s Status
	out, err := e.CtlOK(ctx, cp, "status", agent, "-o", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// HistoryEntry is one entry of `agentctl history NAME -o json`.
type HistoryEntry struct {
	Seq      int64   `json:"seq"`
	Kind     string  `json:"kind"`
	Revision int64   `json:"revision"`
	Config   string  `json:"config"`
	From     string  `json:"from"`
	To       string  `json:"to"`
	Actor    string  `json:"actor"`
	Cause    string  `json:"cause"`
	Message  string  `json:"message"`
	State    *string `json:"state"`
	Faults   []Fault `json:"faults"`
}

// History reads an agent's history, newest first.
func (e *Env) History(ctx context.Context, cp *ControlPlane, agent string) ([]HistoryEntry, error) {
	var h []HistoryEntry
	out, err := e.CtlOK(ctx, cp, "history", agent, "-o", "json")
	if err != nil {
		return nil, err
	}
	return h, json.Unmarshal([]byte(out), &h)
}
