package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// breakIt gives the agent a second MCP server that is dead: the agent must refuse, and go on answering.
func breakIt(ctx context.Context, d *demo) (string, error) {
	dead, err := harness.FreeAddr()
	if err != nil {
		return "", err
	}
	entry := fmt.Sprintf(`{"name": "dead-server", "endpoint": "http://%s/mcp"}`, dead)
	if err := os.WriteFile(filepath.Join(d.spec, "mcp", "dead-server.json"), []byte(entry), 0o600); err != nil {
		return "", err
	}
	if err := d.edit(agentName+"/mcp-servers.json", `"mcpServers": [`, `"mcpServers": [{"mcpServerName": "dead-server"},`); err != nil {
		return "", err
	}
	if err := d.edit(agentName+"/agent-base.json", `"maxIterations": 10`, `"maxIterations": 10, "release": {"progressDeadline": "3s"}`); err != nil {
		return "", err
	}
	if _, err := d.ctl(ctx, "apply", "-f", d.spec, "--message", "adds a server that is dead"); err != nil {
		return "", err
	}
	// While the instance retries, the old config answers.
	ans, err := d.agent.Chat(ctx, "", "网关的路由配置是什么？")
	if err != nil {
		return "", fmt.Errorf("while the new config is tried: %w", err)
	}
	var st harness.Status
	err = harness.Poll(ctx, 15*time.Second, func(ctx context.Context) error {
		if st, err = d.env.Status(ctx, d.cp, agentName); err != nil {
			return err
		}
		if st.LastRefusal == nil {
			return fmt.Errorf("no refusal in status yet: %+v", st)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	r := st.LastRefusal
	if len(r.Faults) != 1 || r.Faults[0].Resource != "mcp/dead-server" || r.Faults[0].Code != "unreachable" {
		return "", fmt.Errorf("the refusal's faults: %+v", r.Faults)
	}
	return fmt.Sprintf("A change that needs a dead server was refused (%s: %s %s) while %s kept answering.", r.Config, r.Faults[0].Resource, r.Faults[0].Code, ans.Config), nil
}

func seeRollback(ctx context.Context, d *demo) (string, error) {
	if _, err := d.ctl(ctx, "wait", "agent/"+agentName, "--for=condition=Synced", "--timeout", "10s"); err != nil {
		return "", err
	}
	st, err := d.env.Status(ctx, d.cp, agentName)
	if err != nil {
		return "", err
	}
	r := st.LastRefusal
	if r == nil || r.Action != "rolled_back" || r.RolledBackTo != st.Revision.Stable || st.Revision.Desired != st.Revision.Stable {
		return "", fmt.Errorf("status after the rollback: %+v, refusal %+v", st, r)
	}
	history, err := d.env.History(ctx, d.cp, agentName)
	if err != nil {
		return "", err
	}
	refused := false
	for _, h := range history {
		refused = refused || (h.Kind == "revision" && h.Revision == r.Revision && h.State != nil && *h.State == "refused")
	}
	if !refused {
		return "", fmt.Errorf("history does not call revision %d refused: %+v", r.Revision, history)
	}
	ans, err := d.agent.Chat(ctx, "", "网关的路由配置是什么？")
	if err != nil {
		return "", err
	}
	if ans.Revision != fmt.Sprint(st.Revision.Stable) {
		return "", fmt.Errorf("the answer is stamped revision %s, stable is %d", ans.Revision, st.Revision.Stable)
	}
	return fmt.Sprintf("It was rolled back by itself: revision %d is refused in history, %d is stable and answers.", r.Revision, st.Revision.Stable), nil
}

func restartWithoutControlPlane(ctx context.Context, d *demo) (string, error) {
	d.cp.Kill()
	if err := d.agent.Signal(syscall.SIGKILL); err != nil {
		return "", err
	}
	_ = d.agent.Wait(5 * time.Second) // its exit status says killed
	if err := d.agent.Restart(); err != nil {
		return "", err
	}
	began := time.Now()
	if err := d.agent.WaitReady(ctx, 5*time.Second); err != nil {
		return "", err
	}
	ready := time.Since(began)
	before, err := d.toolCalls("get_config")
	if err != nil {
		return "", err
	}
	ans, err := d.agent.Chat(ctx, "", "订单服务的超时是多少？")
	if err != nil {
		return "", err
	}
	after, err := d.toolCalls("get_config")
	if err != nil {
		return "", err
	}
	if after != before+1 || !strings.Contains(ans.Text, "order.timeout.ms=3000") {
		return "", fmt.Errorf("the MCP server saw %d new calls; the answer is %q", after-before, ans.Text)
	}
	return fmt.Sprintf("With the control plane killed, a restarted agentd was ready after %d ms from its last good copy and answers as before.", ready.Milliseconds()), nil
}

func controlPlaneReturns(ctx context.Context, d *demo) (string, error) {
	if err := d.cp.Restart(ctx); err != nil {
		return "", err
	}
	err := harness.Poll(ctx, 35*time.Second, func(ctx context.Context) error {
		st, err := d.env.Status(ctx, d.cp, agentName)
		if err != nil {
			return err
		}
		if len(st.Instances) != 1 || st.Instances[0].Phase != "APPLIED" || st.Instances[0].ConfigState != "live" {
			return fmt.Errorf("status: %+v", st)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	sent, err := d.cp.Metric(ctx, "agentry_push_content_bytes_total")
	if err != nil {
		return "", err
	}
	if sent != 0 {
		return "", fmt.Errorf("%v bytes of content were sent again, want 0", sent)
	}
	return "The control plane is back, the instance is confirmed, and 0 bytes of content were sent again.", nil
}
