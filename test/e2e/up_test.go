package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// upInfo is the frozen shape of `up --info-file`.
type upInfo struct {
	People    string                     `json:"people"`
	Runtime   string                     `json:"runtime"`
	Agents    map[string][]string        `json:"agents"`
	PIDs      map[string]json.RawMessage `json:"pids"`
	TokenFile string                     `json:"tokenFile"`
}

func readInfo(path string) (upInfo, error) {
	var info upInfo
	b, err := os.ReadFile(path)
	if err != nil {
		return info, err
	}
	return info, json.Unmarshal(b, &info)
}

// `agentctl up` serves the folder, restarts what crashes and stops cleanly at Ctrl-C.
func TestUpServesRestartsAndStops(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	dir, infoFile := filepath.Join(env.Dir, "spec"), filepath.Join(env.Dir, "info.json")
	set := helper(stub.URL, `"alpha"`)
	set["other/agent-base.json"] = `{"promptKey": "helper"}`
	set["other/model.json"] = `{"model": "scripted"}`
	if err := set.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	up, err := env.Start("up", "agentctl", nil, "up", dir, "--port-base", "0", "--data-dir", filepath.Join(env.Dir, "data"), "--info-file", infoFile, "--instances", "helper=2")
	if err != nil {
		t.Fatal(err)
	}
	var info upInfo
	eventually(t, 30*time.Second, func(context.Context) error {
		if !up.Running() {
			t.Fatalf("up ended:\n%s", up.Output())
		}
		if !strings.Contains(up.Output(), "\nready ") {
			return fmt.Errorf("no line that begins with ready:\n%s", up.Output())
		}
		info, err = readInfo(infoFile)
		return err
	})
	if len(info.Agents["helper"]) != 2 || len(info.Agents["other"]) != 1 {
		t.Fatalf("info %+v", info)
	}
	a := &harness.Agent{Agent: "helper", Addr: strings.TrimPrefix(info.Agents["helper"][0], "http://")}
	ask := func(ctx context.Context) error {
		ans, err := a.Chat(ctx, "", "hello")
		if err == nil && !strings.Contains(ans.Text, "hello") {
			err = fmt.Errorf("answer %q", ans.Text)
		}
		return err
	}
	if err := ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	cp := &harness.ControlPlane{People: strings.TrimPrefix(info.People, "http://"), DataDir: filepath.Dir(info.TokenFile)}
	st, err := env.Status(t.Context(), cp, "helper")
	if err != nil {
		t.Fatal(err)
	}
	shown := false
	for _, f := range st.Instances[0].Faults {
		shown = shown || (f.Field == "model.baseUrl" && f.Severity == "WARNING")
	}
	if !shown || st.Condition != "Synced" || len(st.Instances) != 2 {
		t.Errorf("status does not show the overridden model endpoint, or isn't Synced: %+v", st)
	}

	// kill -9 of one agent: started again on the same port; the other agent never notices.
	var pids []int
	if err := json.Unmarshal(info.PIDs["helper"], &pids); err != nil || len(pids) != 2 {
		t.Fatalf("pids %s: %v", info.PIDs["helper"], err)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		now, err := readInfo(infoFile)
		if err != nil {
			return err
		}
		var fresh []int
		if err := json.Unmarshal(now.PIDs["helper"], &fresh); err != nil {
			return err
		}
		if fresh[0] == pids[0] || fresh[0] == 0 {
			return fmt.Errorf("pids %v: not started again yet", fresh)
		}
		return ask(ctx)
	})
	if !strings.Contains(up.Output(), "helper | ") || !strings.Contains(up.Output(), "controlplane | ") {
		t.Error("logs are not prefixed by process")
	}
	began := time.Now()
	if err := up.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := up.Wait(20 * time.Second); err != nil {
		t.Errorf("Ctrl-C: %v\n%s", err, up.Output())
	}
	t.Logf("stopped in %s", time.Since(began))
	for _, pid := range pids[1:] {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d outlived up", pid)
		}
	}
}
