package doors

import (
	"testing"

	"github.com/agentry/agentry/test/harness"
)

func TestOpenAI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "default: {text: hello}")
	a := w.agent(t, "helper", harness.Files{
		"helper/agent-base.json": `{"promptKey": "helper", "description": "helps"}`,
		"helper/model.json":      `{"model": "scripted"}`,
		"prompts/helper.json":    `{"promptKey": "helper", "version": "1.0.0", "template": "You help."}`,
	}, harness.AgentOptions{})
	for _, client := range []string{"openai", "openai-6"} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			node(t, "openai.mjs", "CLIENT="+client, "BASE_URL="+a.URL()+"/v1", "MODEL_URL="+w.url)
		})
	}
}
