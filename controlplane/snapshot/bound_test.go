package snapshot

import (
	"errors"
	"testing"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// A credential that is bound to origins makes no snapshot for a spec that sends it elsewhere, however that came about.
func TestBoundCredentials(t *testing.T) {
	const entry = `{"name":"tools","version":"3","transport":"streamable-http","endpoints":[{"url":"https://tools.example.com/mcp","weight":1}]}`
	cases := map[string]struct {
		origins map[string][]string // of credentials
		model   string              // base URL of revision 3
		memory  bool
		want    string
	}{
		"bound to nothing":        {model: "https://models.example.com/v1"},
		"bound to the model":      {origins: map[string][]string{"token": {"https://tools.example.com"}}, model: "https://models.example.com/v1"},
		"to both":                 {origins: map[string][]string{"key": {"https://models.example.com", "https://tools.example.com"}}, model: "https://models.example.com/v1"},
		"the default port":        {origins: map[string][]string{"key": {"https://models.example.com", "https://tools.example.com"}}, model: "https://MODELS.example.com:443/v1"},
		"another host":            {origins: map[string][]string{"key": {"https://models.example.com", "https://tools.example.com"}}, model: "https://evil.example.com/v1", want: "credential/key may not be sent to https://evil.example.com, only to https://models.example.com, https://tools.example.com (model.apiKey of the agent's spec)"},
		"another port":            {origins: map[string][]string{"key": {"https://models.example.com"}}, model: "https://models.example.com:8443/v1", want: "credential/key may not be sent to https://models.example.com:8443, only to https://models.example.com (model.apiKey of the agent's spec)"},
		"another scheme":          {origins: map[string][]string{"key": {"https://models.example.com"}}, model: "http://models.example.com/v1", want: "credential/key may not be sent to http://models.example.com, only to https://models.example.com (model.apiKey of the agent's spec)"},
		"a user that looks alike": {origins: map[string][]string{"key": {"https://models.example.com"}}, model: "https://models.example.com@evil.example.com/", want: "credential/key may not be sent to an unknown address, only to https://models.example.com (model.apiKey of the agent's spec)"},
		"the MCP entry":           {origins: map[string][]string{"key": {"https://models.example.com"}}, model: "https://models.example.com/v1", want: "credential/key may not be sent to https://tools.example.com, only to https://models.example.com (mcpServers[0].headers.y of the agent's spec)"},
		"an address of its own":   {origins: map[string][]string{"key": {"https://models.example.com"}}, want: "credential/key may not be sent to an unknown address, only to https://models.example.com (model.apiKey of the agent's spec)"},
		"memory, whose address isn't an origin": {
			origins: map[string][]string{"store": {"https://x.example.com"}}, model: "https://models.example.com/v1", memory: true,
			want: "credential/store may not be sent to an unknown address, only to https://x.example.com (memory.credential of the agent's spec)",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h, im := fixture(t)
			h.Agent.Stable = 3
			h.MCP["tools"] = MCPHead{ModRevision: 25, Current: "3", Versions: map[string]manifest.Hash{"3": im.blob(entry)}}
			h.Credentials["store"] = CredentialHead{ModRevision: 7, Version: 1}
			im.spec(t, 3, func(a *spec.Agent) {
				a.Model.BaseURL = c.model
				if c.memory {
					a.Memory.Credential = spec.Value{Ref: "store"}
				}
			})
			for name, origins := range c.origins {
				head := h.Credentials[name]
				head.Origins = origins
				h.Credentials[name] = head
			}
			_, err := Build(h, im, Instance{})
			var dangling *DanglingError
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.As(err, &dangling) || err.Error() != c.want {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}
