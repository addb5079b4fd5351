package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"connectrpc.com/connect"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
)

// get reads a small local page and answers its body unless it is 200.
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(body)))
	}
	return nil
}

func (s *stack) waitControlPlane(ctx context.Context, g *group) error {
	return poll(ctx, g, func(ctx context.Context) error {
		if s.sup.Starts("controlplane") > 1 {
			return &fatalError{errors.New("the control plane does not start; its last words are above")}
		}
		return get(ctx, "http://"+s.plan.people+"/readyz")
	}, func(err error) { s.sup.Say("waiting for the control plane: %v", err) })
}

func (s *stack) waitListening(ctx context.Context, l listening, g *group) error {
	return poll(ctx, g, func(ctx context.Context) error {
		if s.sup.Starts(l.name) > 1 {
			return &fatalError{fmt.Errorf("%s does not start; its last words are above", l.name)}
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", l.addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}, func(err error) { s.sup.Say("waiting for %s: %v", l.name, err) })
}

func (s *stack) waitReady(ctx context.Context, g *group) error {
	for _, i := range s.plan.instances {
		err := poll(ctx, g, func(ctx context.Context) error { return get(ctx, "http://"+i.addr+"/readyz") },
			func(err error) { s.sup.Say("waiting for %s: %v", i.process.Name, err) })
		if err != nil {
			return err
		}
	}
	return nil
}

// apply writes the folder once; the second time the same folder is "unchanged".
func (s *stack) apply(ctx context.Context) error {
	token, err := s.token()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	client := specv1connect.NewSpecServiceClient(plain, "http://"+s.plan.people)
	req := connect.NewRequest(&specv1.ApplyRequest{Files: s.cfg.Files, Message: "agentctl up"})
	req.Header().Set("Authorization", "Bearer "+token.Reveal())
	resp, err := client.Apply(ctx, req)
	if err != nil {
		return fmt.Errorf("apply %s: %w", s.cfg.Dir, err)
	}
	for _, r := range resp.Msg.GetResults() {
		line := fmt.Sprintf("%s/%s %s", r.GetKind(), r.GetName(), r.GetAction())
		if r.GetReason() != "" {
			line += ": " + r.GetReason()
		}
		s.sup.Say("%s", line)
	}
	for _, n := range resp.Msg.GetNotes() {
		s.sup.Say("note: %s", n)
	}
	return nil
}

// announce writes the info file and prints the line that begins with "ready".
func (s *stack) announce(ctx context.Context) error {
	if err := s.writeInfo(); err != nil {
		return err
	}
	var urls []string
	for _, i := range s.plan.instances {
		urls = append(urls, i.process.Name+" http://"+i.addr+"/v1")
	}
	fmt.Fprintf(s.cfg.Stdout, "ready  control plane http://%s  %s\n", s.plan.people, strings.Join(urls, "  "))
	if s.cfg.PortBase != defaultPortBase {
		s.sup.Say("agentctl finds it with --server http://%s --token-file %s", s.plan.people, s.tokenFile())
	}
	if s.cfg.Open {
		s.open(ctx, "http://"+s.plan.people+"/debug")
	}
	return nil
}

// defaultPortBase is where agentctl looks by itself.
const defaultPortBase = 7700

// info is the frozen shape of --info-file.
type info struct {
	People    string              `json:"people"`
	Runtime   string              `json:"runtime"`
	Agents    map[string][]string `json:"agents"`
	PIDs      map[string]any      `json:"pids"`
	TokenFile string              `json:"tokenFile"`
}

// writeInfo puts the info file in place by a rename, so that a reader never sees half of it.
func (s *stack) writeInfo() error {
	if s.cfg.InfoFile == "" {
		return nil
	}
	v := info{
		People: "http://" + s.plan.people, Runtime: s.plan.runtime, Agents: map[string][]string{},
		PIDs: map[string]any{"controlplane": s.sup.PID("controlplane")}, TokenFile: s.tokenFile(),
	}
	pids := map[string][]int{}
	for _, i := range s.plan.instances {
		v.Agents[i.agent.Name] = append(v.Agents[i.agent.Name], "http://"+i.addr)
		pids[i.agent.Name] = append(pids[i.agent.Name], s.sup.PID(i.process.Name))
	}
	for name, list := range pids {
		v.PIDs[name] = list
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := s.cfg.InfoFile + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("info file: %w", err)
	}
	if err := os.Rename(tmp, s.cfg.InfoFile); err != nil {
		return fmt.Errorf("info file: %w", err)
	}
	return nil
}

// open shows a page in the user's browser; without one the address is printed.
func (s *stack) open(ctx context.Context, url string) {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	if err := exec.CommandContext(context.WithoutCancel(ctx), program, url).Run(); err != nil { //nolint:gosec // a constant program
		s.sup.Say("open %s in a browser", url)
	}
}
