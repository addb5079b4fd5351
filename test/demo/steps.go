package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/agentry/agentry/test/harness"
)

func startControlPlane(ctx context.Context, d *demo) (string, error) {
	cp, err := d.env.StartControlPlane(ctx)
	if err != nil {
		return "", err
	}
	d.cp = cp
	return "A control plane with its embedded etcd is up.", nil
}

func applyExample(ctx context.Context, d *demo) (string, error) {
	if err := os.CopyFS(d.spec, os.DirFS("examples/nacos-helper")); err != nil {
		return "", err
	}
	addr, err := harness.FreeAddr()
	if err != nil {
		return "", err
	}
	d.mcp, err = d.env.Start("nacos-mcp", "nacos-mcp", nil, "--listen", addr, "--calls", d.calls)
	if err != nil {
		return "", err
	}
	if err := d.edit("mcp/nacos-mcp-tools.json", "127.0.0.1:7790", addr); err != nil {
		return "", err
	}
	if err := d.apply(ctx, "first version"); err != nil {
		return "", err
	}
	st, err := d.env.Status(ctx, d.cp, agentName)
	if err != nil {
		return "", err
	}
	if st.Revision.Stable != 1 || st.Condition != "Unproven" {
		return "", fmt.Errorf("status after the first apply: %+v, want revision 1, Unproven", st)
	}
	return "The folder examples/nacos-helper is stored as revision 1; nobody runs it yet.", nil
}

func startAgent(ctx context.Context, d *demo) (string, error) {
	a, err := d.env.StartAgent(d.cp, agentName, harness.AgentOptions{ModelBaseURL: d.url})
	if err != nil {
		return "", err
	}
	d.agent = a
	if err := a.WaitReady(ctx, 10*time.Second); err != nil {
		return "", err
	}
	if _, err := d.ctl(ctx, "wait", "agent/"+agentName, "--for=condition=Synced", "--timeout", "10s"); err != nil {
		return "", err
	}
	return "An agentd started from AGENT_NAME and a join token got its identity and its snapshot, connected its MCP server and is ready.", nil
}

func askQuestion(ctx context.Context, d *demo) (string, error) {
	ans, err := d.agent.Chat(ctx, "", "网关的路由配置是什么？")
	if err != nil {
		return "", err
	}
	calls, err := d.toolCalls("get_config")
	if err != nil {
		return "", err
	}
	seen, err := d.lastSeen()
	if err != nil {
		return "", err
	}
	switch {
	case calls != 1:
		return "", fmt.Errorf("the MCP server saw %d calls of get_config, want 1", calls)
	case !strings.Contains(ans.Text, "order-service"):
		return "", fmt.Errorf("the answer does not hold what the tool read: %q", ans.Text)
	case !strings.Contains(seen.System, "微服务引擎 Nacos") || !strings.Contains(seen.ToolResult, "order-service"):
		return "", fmt.Errorf("the scripted model server saw prompt %q and tool result %q", seen.System, seen.ToolResult)
	case ans.Revision != "1" || !strings.HasPrefix(ans.Config, "1-"):
		return "", fmt.Errorf("the answer is stamped revision %q, config %q", ans.Revision, ans.Config)
	}
	return "A question was answered with a tool call in between, stamped with config " + ans.Config + ".", nil
}

func pushPrompt(ctx context.Context, d *demo) (string, error) {
	began, release := make(chan struct{}), make(chan error, 1)
	var streamed harness.Answer
	go func() {
		first := true
		var err error
		streamed, err = d.agent.ChatStream(ctx, "", "请详细介绍 Nacos。", func(string) {
			if first {
				first = false
				close(began)
			}
		})
		release <- err
	}()
	select {
	case <-began:
	case err := <-release:
		return "", fmt.Errorf("the streaming answer ended before its first word: %w", err)
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if err := d.edit("prompts/mse-nacos-helper.json", `"version": "1.0.0"`, `"version": "1.1.0"`); err != nil {
		return "", err
	}
	if err := d.edit("prompts/mse-nacos-helper.json", "示例环境", "生产环境"); err != nil {
		return "", err
	}
	if _, err := d.ctl(ctx, "apply", "-f", d.spec+"/prompts", "--message", "the prompt speaks of production"); err != nil {
		return "", err
	}
	var next harness.Answer
	err := harness.Poll(ctx, 5*time.Second, func(ctx context.Context) error {
		var err error
		if next, err = d.agent.Chat(ctx, "", "你负责什么？"); err != nil {
			return err
		}
		if next.Text != "我负责生产环境。" {
			return fmt.Errorf("the answer is %q", next.Text)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	stillStreaming := len(release) == 0
	if err := <-release; err != nil {
		return "", fmt.Errorf("the streaming answer was disturbed: %w", err)
	}
	switch {
	case !stillStreaming:
		return "", errors.New("the streaming answer had ended before the new prompt answered: nothing was shown")
	case !strings.HasSuffix(streamed.Text, "而非语言模型。"):
		return "", fmt.Errorf("the streaming answer is cut: %q", streamed.Text)
	case streamed.Config == next.Config || next.Revision != "1":
		return "", fmt.Errorf("configs: streamed %s, next %s (revision %s)", streamed.Config, next.Config, next.Revision)
	}
	return fmt.Sprintf("A new prompt version reached the agent (%s -> %s); a streaming answer begun before went on undisturbed.", streamed.Config, next.Config), nil
}

func addTool(ctx context.Context, d *demo) (string, error) {
	if err := d.edit(agentName+"/mcp-servers.json", `"list_configs", "get_config"`, `"list_configs", "get_config", "list_services"`); err != nil {
		return "", err
	}
	if err := d.apply(ctx, "may list services"); err != nil {
		return "", err
	}
	ans, err := d.agent.Chat(ctx, "", "有哪些服务？")
	if err != nil {
		return "", err
	}
	calls, err := d.toolCalls("list_services")
	if err != nil {
		return "", err
	}
	if calls != 1 || !strings.Contains(ans.Text, "payment-service") {
		return "", fmt.Errorf("the MCP server saw %d calls of list_services; the answer is %q", calls, ans.Text)
	}
	return "A tool was added while running; the next request used it.", nil
}

func removeTool(ctx context.Context, d *demo) (string, error) {
	if err := d.edit(agentName+"/mcp-servers.json", `, "list_services"`, ``); err != nil {
		return "", err
	}
	if err := d.apply(ctx, "may not list services any more"); err != nil {
		return "", err
	}
	ans, err := d.agent.Chat(ctx, "", "有哪些服务？")
	if err != nil {
		return "", err
	}
	seen, err := d.lastSeen()
	if err != nil {
		return "", err
	}
	for _, name := range seen.ToolNames() {
		if strings.HasSuffix(name, "list_services") {
			return "", fmt.Errorf("the scripted model server was still offered %s", name)
		}
	}
	if ans.Text != "我现在没有查询服务列表的工具。" {
		return "", fmt.Errorf("the answer is %q", ans.Text)
	}
	return "The tool was removed again; the model is no longer offered it.", nil
}

func stopAll(_ context.Context, d *demo) (string, error) {
	if err := d.agent.Stop(15 * time.Second); err != nil {
		return "", fmt.Errorf("agentd: %w", err)
	}
	if err := d.cp.Stop(15 * time.Second); err != nil {
		return "", fmt.Errorf("controlplane: %w", err)
	}
	if err := d.mcp.Stop(5 * time.Second); err != nil {
		return "", fmt.Errorf("nacos-mcp: %w", err)
	}
	return "Everything ended cleanly at SIGTERM.", nil
}
