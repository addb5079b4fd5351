package doors

import (
	"fmt"
	"testing"

	"github.com/agentry/agentry/test/harness"
)

// mcpScript calls the desk's refund for those who ask for one, and hangs for those who ask for it.
const mcpScript = `
rules:
  - name: after a tool
    when: {toolResult: true}
    reply: {text: "done: {{toolResult}}"}
  - name: a refund
    when: {user: "/refund (\\d+)/", tools: [refund]}
    reply: {toolCalls: [{name: refund, arguments: '{"amount": {{1}}}'}]}
  - name: slow
    when: {user: slow}
    fault: {slow: 1m}
default: {text: "message {{turn}}: {{user}}"}
`

func TestMCP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mcpScript)
	desk := harness.NewMCPStub("desk", "refund")
	t.Cleanup(desk.Close)
	a := w.agent(t, "helper", harness.Files{
		"helper/agent-base.json":  `{"promptKey": "helper", "description": "Helps with refunds.", "approval": {"tools": [{"tool": "desk/refund", "when": "args.amount > 50"}]}}`,
		"helper/model.json":       `{"model": "scripted"}`,
		"helper/mcp-servers.json": `{"mcpServers": [{"mcpServerName": "desk", "tools": {"allow": ["refund"]}}]}`,
		"mcp/desk.json":           fmt.Sprintf(`{"name": "desk", "endpoint": %q}`, desk.URL),
		"prompts/helper.json":     `{"promptKey": "helper", "version": "1.0.0", "template": "You help."}`,
	})
	node(t, "mcp.mjs", "BASE_URL="+a.URL(), "MODEL_URL="+w.url)
}
