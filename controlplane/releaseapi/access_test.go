package releaseapi

import (
	"context"
	"slices"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/errs"
)

func everybody(string, string) bool { return true }

// only lets a caller see the agents that it names.
type only []string

// Allowed answers for one agent at a time.
func (o only) Allowed(_ access.Principal, p string, on access.Object) bool {
	return p == permission && slices.Contains(o, on.Name)
}

// Somewhere is the gate's question.
func (o only) Somewhere(access.Principal, string, string) bool { return true }

func as(t *testing.T, agents ...string) context.Context {
	t.Helper()
	return access.With(t.Context(), access.Principal{Name: "user:ada", Rules: only(agents)})
}

func TestOnlyWhatTheCallerMaySeeIsListed(t *testing.T) {
	r := newRig(t)
	r.put(t, release.State{Last: 1, Stable: 1, Unproven: true})
	for name, c := range map[string]struct {
		who  func(*testing.T) context.Context
		want []string
	}{
		"its own":     {who: func(t *testing.T) context.Context { return as(t, "bot") }, want: []string{"bot"}}, //nolint:thelper // a case's caller
		"another's":   {who: func(t *testing.T) context.Context { return as(t, "other") }},                      //nolint:thelper // a case's caller
		"nobody":      {who: (*testing.T).Context},
		"any, for it": {who: admin, want: []string{"bot"}},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := r.ListStatus(c.who(t), connect.NewRequest(&releasev1.ListStatusRequest{}))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range resp.Msg.GetStatuses() {
				got = append(got, s.GetAgent())
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAWatchTellsThatAnAgentIsNoLongerSeen(t *testing.T) {
	r := newRig(t)
	r.put(t, release.State{Last: 1, Stable: 1, Unproven: true})
	var got []string
	sees := true
	w := statusWatch{
		svc: r.Service, namespace: "default", sent: map[view.AgentKey]*sentStatus{},
		visible: func(string, string) bool { return sees },
		send: func(st *releasev1.AgentStatus) error {
			got = append(got, st.GetAgent()+" "+st.GetCondition()+" "+st.GetConfig())
			return nil
		},
	}
	look := func() {
		if err := w.all(); err != nil {
			t.Fatal(err)
		}
	}
	look()
	sees = false
	look()
	look()
	if d := cmp.Diff([]string{"bot Unproven " + ref(2, "b").Config(), "bot Deleted "}, got); d != "" {
		t.Error(d)
	}
}

func TestMissingLooksAsDenied(t *testing.T) {
	r := newRig(t)
	_, missing := r.GetStatus(admin(t), connect.NewRequest(&releasev1.GetStatusRequest{Agent: "no"}))
	denied := access.Check(as(t), permission, agentOf("default", "no"))
	if !errs.Is(missing, errs.NotFound) || missing.Error() != denied.Error() {
		t.Errorf("%v, %v", missing, denied)
	}
	if _, err := r.Rollout("default", "no"); err == nil || err.Error() != denied.Error() {
		t.Errorf("%v, %v", err, denied)
	}
}
