package specapi

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
)

// boundFile is a credential document; origins "" leaves them out.
func boundFile(value, origins string) string {
	var fields []string
	if value != "" {
		fields = append(fields, "value: "+value)
	}
	if origins != "" {
		fields = append(fields, "allowedOrigins: ["+origins+"]")
	}
	return "kind: Credential\nmetadata: {name: key}\nspec: {" + strings.Join(fields, ", ") + "}\n"
}

const credentialPath = "set/credentials.yaml"

func boundModel(address string) string {
	return `{"model": "m", "baseUrl": "` + address + `", "apiKey": {"credentialRef": "key"}}`
}

func boundTools(version, address string) string {
	return `{"name": "tools", "version": "` + version + `", "endpoint": "` + address + `"}`
}

// faultTexts lists the faults of a refused apply as path, message and hint.
func faultTexts(t *testing.T, err error) []string {
	t.Helper()
	var ce *connect.Error
	if !errors.As(err, &ce) {
		t.Fatalf("got %v", err)
	}
	var out []string
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if fs, ok := v.(*specv1.Faults); ok {
				for _, f := range fs.GetFaults() {
					out = append(out, fmt.Sprintf("%s:%d %s: %s, %s", f.GetFile(), f.GetLine(), f.GetPath(), f.GetMessage(), f.GetHint()))
				}
			}
		}
	}
	return out
}

// An apply never makes an agent that sends a credential to where it may not go: whether the agent, the MCP entry or the credential
// changes.
func TestCredentialsAreBoundToOrigins(t *testing.T) {
	const (
		models, mcpServers = "https://models.example.com", "https://tools.example.com"
		allowed            = `"https://models.example.com", "https://TOOLS.example.com:443"`
		server             = `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Key": {"credentialRef": "key"}}}]}`
	)
	whole := files(basePath, base, promptPath, promptA, modelPath, boundModel(models+"/v1"), serverPath, server,
		mcpPath, boundTools("1.0.0", mcpServers+"/mcp"), credentialPath, boundFile("sk-canary-bound-1", allowed))
	cases := map[string]struct {
		set  []*specv1.File
		want []string // faults; none: it is written
	}{
		"the agent turns elsewhere": {
			set: files(basePath, base, promptPath, promptA, modelPath, boundModel("https://evil.example.com/v1")),
			want: []string{modelPath + ":1 apiKey: credential key may not be sent to https://evil.example.com, only to https://models.example.com, https://tools.example.com, " +
				"use another credential or address, or add the origin to the credential's allowedOrigins"},
		},
		"the agent turns to another port": {
			set: files(basePath, base, promptPath, promptA, modelPath, boundModel(models+":8443/v1")),
			want: []string{modelPath + ":1 apiKey: credential key may not be sent to https://models.example.com:8443, only to https://models.example.com, https://tools.example.com, " +
				"use another credential or address, or add the origin to the credential's allowedOrigins"},
		},
		"the agent has no address": {
			set: files(basePath, base, promptPath, promptA, modelPath, `{"model": "m", "apiKey": {"credentialRef": "key"}}`),
			want: []string{modelPath + ":1 apiKey: credential key may not be sent to an unknown address, only to https://models.example.com, https://tools.example.com, " +
				"use another credential or address, or add the origin to the credential's allowedOrigins"},
		},
		"the agent uses the other origin": {set: files(basePath, base, promptPath, promptA, modelPath, boundModel(mcpServers+"/v1"))},
		"the entry turns elsewhere": {
			set: files(mcpPath, boundTools("1.0.1", "https://evil.example.com/mcp")),
			want: []string{mcpPath + ":1 endpoint: credential key may not be sent to https://evil.example.com, only to https://models.example.com, https://tools.example.com, " +
				"as agent bot (mcpServers[0].headers.X-Key) would, change the agent first, or in the same set"},
		},
		"the entry turns within the origin": {set: files(mcpPath, boundTools("1.0.1", mcpServers+"/other"))},
		"the credential may go to fewer places": {
			set: files(credentialPath, boundFile("", `"https://models.example.com"`)),
			want: []string{credentialPath + ":3 spec.allowedOrigins: credential key may not be sent to https://tools.example.com, only to https://models.example.com, " +
				"as agent bot (mcpServers[0].headers.X-Key) would, change the agent first, or in the same set"},
		},
		"to more places":                     {set: files(credentialPath, boundFile("", allowed+`, "http://127.0.0.1:11434"`))},
		"anywhere again":                     {set: files(credentialPath, "kind: Credential\nmetadata: {name: key}\nspec: {allowedOrigins: []}\n")},
		"a new value leaves its places":      {set: files(credentialPath, boundFile("sk-canary-bound-2", ""))},
		"the agent and the credential, both": {set: files(basePath, base, promptPath, promptA, modelPath, boundModel("https://other.example.com/v1"), credentialPath, boundFile("", `"https://other.example.com"`))},
		"what is no origin": {
			set:  files(credentialPath, boundFile("", `"https://models.example.com/v1"`)),
			want: []string{credentialPath + `:3 spec.allowedOrigins[0]: "https://models.example.com/v1" is not allowed (allowed: an origin: http:// or https://, a host and perhaps a port, such as https://api.example.com), `},
		},
		"another credential without a value": {
			set:  files(credentialPath, strings.Replace(boundFile("", allowed), "key", "other", 1)),
			want: []string{credentialPath + ":3 spec.value: is missing: credential other doesn't exist yet, "},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.mustApply(whole)
			before := r.newest()
			_, err := r.apply(c.set)
			if len(c.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if diff := cmp.Diff(c.want, faultTexts(t, err)); diff != "" {
				t.Error(diff)
			}
			if r.newest() != before {
				t.Error("something was stored")
			}
		})
	}
}

// A rollback doesn't lead back to where a credential may no longer go.
func TestRollbackHoldsCredentialsToTheirOrigins(t *testing.T) {
	r := newRig(t)
	turn := func(address string) []*specv1.File {
		return files(basePath, base, promptPath, promptA, modelPath, boundModel(address))
	}
	r.mustApply(append(turn("https://old.example.com/v1"), files(credentialPath, boundFile("sk-canary-bound-1", ""))...))
	r.mustApply(turn("https://new.example.com/v1"))
	r.mustApply(files(credentialPath, boundFile("", `"https://new.example.com"`)))
	before := r.newest()
	_, err := r.Rollback(r.ctx(), connect.NewRequest(&specv1.RollbackRequest{Name: "bot", To: "1", Force: true}))
	want := "revision 1 can't be delivered: credential key may not be sent to https://old.example.com, only to https://new.example.com (model.apiKey)"
	if !errs.Is(err, errs.Precondition) || err.Error() != want || r.newest() != before {
		t.Errorf("%v", err)
	}
	r.mustApply(files(credentialPath, boundFile("", `"https://new.example.com", "https://old.example.com"`)))
	if _, err := r.Rollback(r.ctx(), connect.NewRequest(&specv1.RollbackRequest{Name: "bot", To: "1", Force: true})); err != nil {
		t.Error(err)
	}
}

// Where a credential may be sent is kept beside its value: a change of one leaves the other.
func TestOriginsAreKept(t *testing.T) {
	r := newRig(t)
	step := func(file, want string, origins ...string) {
		t.Helper()
		resp := r.mustApply(files(credentialPath, file))
		if diff := cmp.Diff(map[string]string{"credential/key": want}, actions(resp)); diff != "" {
			t.Error(diff)
		}
		head, _, _ := r.view.Credential("default", "key")
		if diff := cmp.Diff(origins, head.AllowedOrigins); diff != "" {
			t.Error(diff)
		}
		if _, err := r.Reveal("default", "key", head.Version); err != nil {
			t.Error(err)
		}
	}
	step(boundFile("sk-canary-kept-1", ""), "created 1")
	step(boundFile("", `"https://b.example.com", "https://a.example.com:443", "https://A.example.com"`), "updated 1", "https://a.example.com", "https://b.example.com")
	step(boundFile("", `"https://a.example.com", "https://b.example.com"`), "unchanged 1", "https://a.example.com", "https://b.example.com")
	step(boundFile("sk-canary-kept-2", ""), "updated 2", "https://a.example.com", "https://b.example.com")
	step(boundFile("sk-canary-kept-3", `"https://a.example.com"`), "updated 3", "https://a.example.com")
	step("kind: Credential\nmetadata: {name: key}\nspec: {allowedOrigins: []}\n", "updated 3")
}
