// Command start measures what a fresh agentd costs: the time from its start to ready with a warm control plane, and its idle memory.
// It prints a table; docs/performance.md holds the results with machine and date.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
)

func main() {
	bin := flag.String("bin", "bin", "folder of the binaries")
	runs := flag.Int("runs", 20, "how many agents are started, one after the other")
	idle := flag.Duration("idle", 5*time.Second, "how long an agent idles before its memory is read")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := measure(ctx, *bin, *runs, *idle, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench start: %v\n", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, bin string, runs int, idle time.Duration, out io.Writer) error {
	env, err := harness.New(bin, "")
	if err != nil {
		return err
	}
	defer func() { _ = env.Remove() }()
	cp, err := env.StartControlPlane(ctx)
	if err != nil {
		return err
	}
	api, err := cp.API()
	if err != nil {
		return err
	}
	tools := harness.NewMCPStub("tools", "alpha", "beta")
	defer tools.Close()
	model := httptest.NewServer(scriptmodel.New(scriptmodel.DefaultScript()))
	defer model.Close()
	_, err = api.Apply(ctx, harness.Files{
		"bench/agent-base.json":  `{"promptKey": "bench"}`,
		"bench/model.json":       fmt.Sprintf(`{"model": "scripted", "baseUrl": %q}`, model.URL),
		"bench/mcp-servers.json": `{"mcpServers": [{"mcpServerName": "tools"}]}`,
		"prompts/bench.json":     `{"promptKey": "bench", "version": "1.0.0", "template": "be brief"}`,
		"mcp/tools.json":         fmt.Sprintf(`{"name": "tools", "endpoint": %q}`, tools.URL),
	})
	if err != nil {
		return err
	}
	var ready []time.Duration
	var last *harness.Agent
	for i := range runs {
		if last != nil {
			last.Kill()
		}
		a, took, err := coldStart(ctx, env, cp, i)
		if err != nil {
			return err
		}
		ready, last = append(ready, took), a
	}
	if ans, err := last.Chat(ctx, "", "hello"); err != nil || ans.Text == "" {
		return fmt.Errorf("the last agent does not answer: %q, %w", ans.Text, err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(idle):
	}
	rss, err := memory(last.PID(), "status", "VmRSS:")
	if err != nil {
		return err
	}
	pss, err := memory(last.PID(), "smaps_rollup", "Pss:")
	if err != nil {
		return err
	}
	slices.Sort(ready)
	fmt.Fprintf(out, "%-34s %8s %8s %8s\n", "agentd, one MCP server", "min", "median", "max")
	fmt.Fprintf(out, "%-34s %8.1f %8.1f %8.1f   (%d runs, target 100)\n", "cold start to ready, ms", ms(ready[0]), ms(ready[len(ready)/2]), ms(ready[len(ready)-1]), runs)
	fmt.Fprintf(out, "%-34s %8s %8.1f %8s   (after %s idle, target 30)\n", "idle RSS, MB", "", rss, "", idle)
	fmt.Fprintf(out, "%-34s %8s %8.1f\n", "idle PSS, MB", "", pss)
	return nil
}

// coldStart starts an agentd with an empty state directory and a join token, and polls /readyz every millisecond.
func coldStart(ctx context.Context, env *harness.Env, cp *harness.ControlPlane, i int) (*harness.Agent, time.Duration, error) {
	token, err := cp.JoinToken(ctx, "default", "bench")
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	a, err := env.StartAgent(cp, "bench", harness.AgentOptions{Instance: "bench-" + strconv.Itoa(i), Vars: []string{"AGENTD_JOIN_TOKEN=" + token}})
	if err != nil {
		return nil, 0, err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < 10*time.Second {
		if code, _, err := harness.Get(ctx, a.URL()+"/readyz"); err == nil && code == 200 {
			return a, time.Since(began), nil
		}
		<-tick.C
	}
	return nil, 0, fmt.Errorf("agent %d is not ready after 10 s:\n%s", i, a.Output())
}

// memory reads a value in kB from a process's proc file and answers MB.
func memory(pid int, file, key string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in %s", key, file)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
