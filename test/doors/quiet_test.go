package doors

import (
	"testing"

	"github.com/agentry/agentry/test/harness"
)

// TestOpenAIQuiet: the comments in a silent stream don't disturb the clients.
func TestOpenAIQuiet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `
rules:
  - {when: {user: think}, reply: {text: thought about it, delay: 17s}}
  - {when: {user: break}, reply: {delay: 17s}, fault: {status: 500}}
default: {text: hello}
`)
	a := w.agent(t, "quiet", harness.Files{
		"quiet/agent-base.json": `{"promptKey": "quiet", "description": "thinks for long"}`,
		"quiet/model.json":      `{"model": "scripted", "retry": {"attempts": 1}}`,
		"prompts/quiet.json":    `{"promptKey": "quiet", "version": "1.0.0", "template": "You think."}`,
	})
	node(t, "openai-quiet.mjs", "CLIENTS=openai,openai-6", "BASE_URL="+a.URL()+"/v1")
}
