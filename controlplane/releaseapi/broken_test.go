package releaseapi

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
)

// What broke: a prompt deleted under an agent left "Unproven, config -" without a reason anywhere but in the log.
func TestWhyAConfigCantBeBuiltIsShown(t *testing.T) {
	const want = "config can't be built: prompt/p is deleted"
	r := newRig(t)
	r.desired.resolve = func(string, string) (fleet.Ref, error) {
		return fleet.Ref{}, &snapshot.DanglingError{Resource: "prompt/p", Field: "promptKey", Reason: "is deleted"}
	}
	r.put(t, release.State{Last: 1, Stable: 1, Unproven: true})
	get := func() *releasev1.AgentStatus {
		t.Helper()
		resp, err := r.GetStatus(admin(t), connect.NewRequest(&releasev1.GetStatusRequest{Agent: "bot"}))
		if err != nil {
			t.Fatal(err)
		}
		return resp.Msg.GetStatus()
	}
	if st := get(); st.GetRelease() != want || st.GetCondition() != "Unproven" || st.GetConfig() != "" {
		t.Errorf("without instances: %v", st)
	}
	r.hello("i1")
	st := get()
	faults := st.GetInstances()[0].GetFaults()
	if len(faults) != 1 || st.GetCondition() != "Degraded" || string(r.Condition("default", "bot")) != "Degraded" {
		t.Fatalf("with an instance: %v", st)
	}
	f := faults[0]
	if f.GetResource() != "agent/bot" || f.GetField() != "promptKey" || f.GetCode() != "invalid" || f.GetSeverity() != "ERROR" || f.GetMessage() != want {
		t.Errorf("fault %v", f)
	}
	if line, err := r.Rollout("default", "bot"); err != nil || !strings.HasSuffix(line.GetLine(), want) {
		t.Errorf("rollout: %v, %v", line, err)
	}
}

// What broke: see above; here what can't be built is only what some instances are offered, which the publisher notes.
func TestThePublishersNoteIsShown(t *testing.T) {
	r := newRig(t)
	r.cfg.Note = func(string, string) string { return "prompt/q is deleted (promptKey of the agent's spec)" }
	r.put(t, release.State{Last: 1, Stable: 1, Proven: 1})
	r.hello("i1")
	st := r.Statuses("default")[0]
	if f := st.GetInstances()[0].GetFaults(); len(f) != 1 || !strings.Contains(f[0].GetMessage(), "prompt/q is deleted") || st.GetConfig() == "" {
		t.Errorf("status %v", st)
	}
}
