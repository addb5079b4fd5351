package specapi

import (
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// rollouts is the service beside the rig's, with an agent whose revision 1 is stable.
func (r *rig) rollouts() *Rollouts {
	r.t.Helper()
	out, err := NewRollouts(r.Service, func(_, agent string) (*releasev1.Rollout, error) {
		return &releasev1.Rollout{Agent: agent, State: "settled"}, nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.mustApply(whole())
	return out
}

// change writes the agent's head as the releaser would.
func (r *rig) change(f func(s *release.State)) {
	r.t.Helper()
	head, mod, _ := r.view.Agent("default", "bot")
	f(&head.State)
	key := view.HeadKey(manifest.KindAgent, "default", "bot")
	rev, err := r.store.Commit(r.t.Context(), store.Txn{
		If: []store.Cond{{Key: key, ModRevision: mod}}, Puts: []store.KV{{Key: key, Value: view.Encode(head.Moved(head.State))}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.view.WaitFor(r.t.Context(), rev); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) lastCause() string {
	r.t.Helper()
	m := r.view.Moves("default", kindAgent, "bot")[0]
	return m.Actor + " " + m.Cause + " " + m.Message + " " + m.Heads[0].From + ">" + m.Heads[0].To
}

func TestAbortClosesTheCandidate(t *testing.T) {
	r := newRig(t)
	s := r.rollouts()
	abort := func(dry bool, check *int64) (*releasev1.AbortResponse, error) {
		resp, err := s.Abort(r.ctx(), connect.NewRequest(&releasev1.AbortRequest{Agent: "bot", Message: "why", DryRun: dry, CheckRevision: check}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	if _, err := abort(false, nil); !errs.Is(err, errs.Precondition) {
		t.Errorf("nothing is open: %v", err)
	}
	r.fleet.live = true
	r.mustApply(iterations(3))
	before, stale := r.newest(), int64(1)
	if got, err := abort(true, nil); err != nil || got.GetFrom() != 2 || got.GetTo() != 1 || r.newest() != before {
		t.Errorf("dry run: %v, %v", got, err)
	}
	if _, err := abort(false, &stale); !errs.Is(err, errs.Conflict) {
		t.Errorf("a stale revision: %v", err)
	}
	got, err := abort(false, nil)
	if err != nil || got.GetFrom() != 2 || got.GetTo() != 1 || r.newest() != before+1 || got.GetStoreRevision() != before+1 {
		t.Fatalf("%v, %v", got, err)
	}
	if head, _, _ := r.view.Agent("default", "bot"); head.State.Candidate != nil || head.State.Desired() != 1 {
		t.Errorf("state %+v", head.State)
	}
	if diff := cmp.Diff("dev abort why 2>1", r.lastCause()); diff != "" {
		t.Error(diff)
	}
}

func TestRetryOffersTheRefusedAgain(t *testing.T) {
	r := newRig(t)
	s := r.rollouts()
	retry := func() (*releasev1.RetryResponse, error) {
		resp, err := s.Retry(r.ctx(), connect.NewRequest(&releasev1.RetryRequest{Agent: "bot", Message: "why"}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	if _, err := retry(); !errs.Is(err, errs.Precondition) {
		t.Errorf("nothing was refused: %v", err)
	}
	r.fleet.live = true
	r.mustApply(iterations(3))
	r.change(func(s *release.State) {
		s.Candidate = nil
		s.Revisions[1].State = phase.StateRefused
		s.Refusals = []release.Refusal{{Revision: 2, Hash: manifest.Sum([]byte("refused")), Instance: "i"}}
		s.LastRefusal = &release.LastRefusal{Revision: 2, Instance: "i", Action: release.ActionRolledBack, RolledBackTo: 1}
	})
	got, err := retry()
	if err != nil || got.GetFrom() != 1 || got.GetTo() != 2 || got.GetStoreRevision() == 0 {
		t.Fatalf("%v, %v", got, err)
	}
	head, _, _ := r.view.Agent("default", "bot")
	if c := head.State.Candidate; c == nil || c.Revision != 2 || len(head.State.Refusals) != 0 || head.ResetGeneration != got.GetStoreRevision() {
		t.Errorf("head %+v", head)
	}
	if diff := cmp.Diff("dev retry why 1>2", r.lastCause()); diff != "" {
		t.Error(diff)
	}
	if _, err := retry(); !errs.Is(err, errs.Precondition) || !strings.Contains(err.Error(), "on its way") {
		t.Errorf("while a candidate is open: %v", err)
	}
}

func TestUnholdLetsGo(t *testing.T) {
	r := newRig(t)
	s := r.rollouts()
	unhold := func() (*releasev1.UnholdResponse, error) {
		resp, err := s.Unhold(r.ctx(), connect.NewRequest(&releasev1.UnholdRequest{Agent: "bot"}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	if _, err := unhold(); !errs.Is(err, errs.Precondition) {
		t.Errorf("nothing is held: %v", err)
	}
	r.change(func(s *release.State) {
		s.Vetoes = []release.Veto{{Kind: kindPrompt, Name: "bot", Refused: []string{"1.0.1"}, Use: "1.0.0"}}
	})
	before := r.newest()
	got, err := unhold()
	if err != nil || len(got.GetVetoes()) != 1 || got.GetVetoes()[0].GetHead() != "prompt/bot" || got.GetVetoes()[0].GetUse() != "1.0.0" || r.newest() != before+1 {
		t.Fatalf("%v, %v", got, err)
	}
	if head, _, _ := r.view.Agent("default", "bot"); len(head.State.Vetoes) != 0 {
		t.Errorf("state %+v", head.State)
	}
	if _, err := s.Unhold(r.ctx(), connect.NewRequest(&releasev1.UnholdRequest{Agent: "nobody"})); !errs.Is(err, errs.NotFound) {
		t.Errorf("no such agent: %v", err)
	}
	if got, err := s.Status(r.ctx(), connect.NewRequest(&releasev1.StatusRequest{Agent: "bot"})); err != nil || got.Msg.GetRollout().GetAgent() != "bot" {
		t.Errorf("%v, %v", got, err)
	}
}
