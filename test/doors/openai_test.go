package doors

import (
	"testing"

	"github.com/agentry/agentry/test/harness"
)

// openaiScript is what openai.mjs asks the model for.
const openaiScript = `
rules:
  - {when: {user: slow}, reply: {text: one two three four five six seven eight nine ten, pace: {delay: 30ms, chunk: 5}}}
  - {when: {user: endless}, reply: {text: one two three four five six seven eight nine ten, pace: {delay: 500ms, chunk: 1}}}
  - {when: {user: hang}, reply: {text: late, delay: 60s}}
  - {when: {user: fail}, fault: {status: 500}}
  - {when: {user: busy}, fault: {status: 429}}
  - {when: {user: cut}, fault: {garbageSSE: true}}
  - {when: {user: weather}, reply: {text: '{"city":"Berlin","degrees":7}'}}
  - {when: {user: recall}, reply: {text: "turn {{turn}}"}}
  - {when: {user: refund}, reply: {toolCalls: [{name: refund, arguments: {q: A-7}}]}}
default: {text: hello}
`

// lockKey is the key of the agent that asks for one.
const lockKey = "k-4f1c9a27d3"

func TestOpenAI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, openaiScript)
	stub := harness.NewMCPStub("desk", "refund")
	t.Cleanup(stub.Close)
	model := `{"model": "scripted", "temperature": 0.2, "retry": {"attempts": 1}}`
	files := harness.Files{
		"helper/agent-base.json":  `{"promptKey": "helper", "description": "helps", "approval": {"tools": ["desk/refund"]}}`,
		"helper/model.json":       model,
		"helper/mcp-servers.json": `{"mcpServers": [{"mcpServerName": "desk"}]}`,
		"locked/agent-base.json":  `{"promptKey": "helper", "description": "asks for a key", "expose": {"auth": {"keys": [{"name": "ci", "key": "` + lockKey + `"}]}}}`,
		"locked/model.json":       model,
		"prompts/helper.json":     `{"promptKey": "helper", "version": "1.0.0", "template": "You help."}`,
		"mcp/desk.json":           `{"name": "desk", "endpoint": "` + stub.URL + `"}`,
	}
	helper := w.agent(t, "helper", files)
	locked := w.agent(t, "locked", files)
	for _, client := range []string{"openai", "openai-6"} {
		node(t, "openai.mjs", "CLIENT="+client, "BASE_URL="+helper.URL()+"/v1", "LOCKED_URL="+locked.URL()+"/v1", "KEY="+lockKey, "MODEL_URL="+w.url)
	}
	if calls := stub.Calls(); len(calls) != 0 {
		t.Errorf("called without consent: %+v", calls)
	}
}
