package specapi

import (
	"slices"
	"testing"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/manifest"
)

// Content that was refused is refused again; a diff shows all the same what it would change.
func TestRefusedContentIsStillADifference(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	r.fleet.live = true
	changed := append(files(basePath, `{"promptKey": "bot", "description": "changed"}`), whole()[1:]...)
	r.mustApply(changed)
	head, mod, _ := r.view.Agent("default", "bot")
	a, err := r.decodeAgent(head, 2)
	if err != nil {
		t.Fatal(err)
	}
	resources, err := r.resolve("default", head, 2, a)
	if err != nil {
		t.Fatal(err)
	}
	head.State.Candidate = nil
	head.State.Refusals = append(head.State.Refusals, release.Refusal{Revision: 2, Hash: manifest.Of(snapshot.Snapshot{Resources: resources}.Lines()), Instance: "i1"})
	key := view.HeadKey(kindAgent, "default", "bot")
	rev, err := r.store.Commit(t.Context(), store.Txn{If: []store.Cond{{Key: key, ModRevision: mod}}, Puts: []store.KV{{Key: key, Value: view.Encode(head)}}})
	if err == nil {
		err = r.view.WaitFor(t.Context(), rev)
	}
	if err != nil {
		t.Fatal(err)
	}
	refused := func(results []*specv1.Result) bool {
		return slices.ContainsFunc(results, func(x *specv1.Result) bool {
			return x.GetKind() == kindAgent && x.GetAction() == actionRefused && x.GetReason() != ""
		})
	}
	if resp := r.mustApply(changed); !refused(resp.GetResults()) {
		t.Errorf("applied again: %v", resp.GetResults())
	}
	resp, err := r.Apply(r.ctx(), connect.NewRequest(&specv1.ApplyRequest{Files: changed, DryRun: true}))
	if err != nil {
		t.Fatal(err)
	}
	if d := resp.Msg.GetDiffs(); !refused(resp.Msg.GetResults()) || len(d) != 1 || len(d[0].GetChanges()) != 1 || d[0].GetChanges()[0].GetPath() != "description" {
		t.Errorf("dry run: %v, diffs %v", resp.Msg.GetResults(), resp.Msg.GetDiffs())
	}
}
