package specapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/spec"
)

const exposed = `{"promptKey": "bot", "approval": {"tools": [{"tool": "tools/drop", "when": "args.rows > 10"}]},
	"expose": {"auth": {"keys": [{"name": "web", "key": "web-canary-5647382910"}, {"name": "ops", "key": {"credentialRef": "bot.model.apiKey"}, "approver": true}]}}}`

// A caller's key is a secret like any other: stored as a credential, with a reference in the spec, and not bound to where it is sent.
func TestCallersKeysAreSplitOut(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	resp := r.mustApply(files(basePath, exposed, modelPath, model, serverPath, servers))
	want := map[string]string{"agent/bot": "updated 2", "credential/bot.expose.auth.web": "created 1"}
	if diff := cmp.Diff(want, actions(resp)); diff != "" {
		t.Error(diff)
	}
	if notes := strings.Join(resp.GetNotes(), "\n"); !strings.Contains(notes, "expose.auth.keys[0].key: secret split out into credential bot.expose.auth.web") || strings.Contains(fmt.Sprint(resp), "canary") {
		t.Error(notes)
	}
	page, err := r.store.List(t.Context(), "/", store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stored := false
	for _, kv := range page.KVs {
		if strings.Contains(string(kv.Value), "canary") {
			t.Errorf("a key lies under %s", kv.Key)
		}
		stored = stored || strings.Contains(string(kv.Value), `{"key":{"credentialRef":"bot.expose.auth.web"},"name":"web"}`)
	}
	if !stored {
		t.Error("no reference is stored")
	}
	if v, err := r.Reveal("default", "bot.expose.auth.web", 1); err != nil || v.Reveal() != "web-canary-5647382910" {
		t.Errorf("reveal: %v", err)
	}
	again := r.mustApply(files(basePath, exposed, modelPath, model, serverPath, servers))
	if diff := cmp.Diff(map[string]string{"agent/bot": "unchanged 2"}, actions(again)); diff != "" {
		t.Error(diff)
	}
}

// A condition that can't be compiled is a fault with its place, among all the others.
func TestConditionsAreCheckedAtApply(t *testing.T) {
	r := newRig(t)
	before := r.newest()
	_, err := r.apply(append(whole()[1:], files(basePath, strings.Replace(exposed, "args.rows > 10", "rows > 10", 1))...))
	if err == nil || !strings.Contains(err.Error(), "approval.tools[0].when") || !strings.Contains(err.Error(), "undeclared reference to 'rows'") {
		t.Errorf("%v", err)
	}
	if r.newest() != before {
		t.Error("something was stored")
	}
}

// An agentd that can't ask for consent, or tell callers apart, refuses: apply says that beforehand.
func TestWhatAnOldAgentdRefusesIsNoted(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	r.fleet.capabilities = [][]string{spec.ThisRelease(), {spec.CapApproval}}
	notes := strings.Join(r.mustApply(files(basePath, exposed, modelPath, model, serverPath, servers)).GetNotes(), "\n")
	if !strings.Contains(notes, "expose.auth needs expose.auth, which agentd can't do yet: it refuses the config") || strings.Contains(notes, "approval needs") {
		t.Error(notes)
	}
}
