package releaseapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

type rig struct {
	*Service
	table *fleet.Table
	store *memstore.Store
	run   func(func(context.Context) error)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	s := memstore.New()
	if _, err := view.Init(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	v, err := view.Open(t.Context(), view.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	table, err := fleet.New(fleet.Config{Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := New(Config{
		View: v, Fleet: table, Desired: func(string, string) (fleet.Ref, error) { return ref(2, "b"), nil },
		Progress: func(namespace, agent string, now time.Time) (release.Progress, bool) {
			head, _, ok := v.Agent(namespace, agent)
			var vetoed []string // all that there are count
			for _, veto := range head.State.Vetoes {
				vetoed = append(vetoed, veto.Resource())
			}
			e := release.Observe{At: now, Stable: &release.Config{Vetoed: vetoed}}
			if c := head.State.Candidate; c != nil {
				e.Seen.Opened = c.Since // one machine's clock
			}
			return release.Describe(head.State, e), ok
		},
		Events: NewRing(time.Now), Now: time.Now, Info: Info{ReplicaID: "r", Version: "v", RuntimeAddress: "127.0.0.1:1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{Service: svc, table: table, store: s}
	var waits []chan struct{}
	r.run = func(f func(context.Context) error) {
		done := make(chan struct{})
		waits = append(waits, done)
		go func() {
			defer close(done)
			if err := f(ctx); err != nil {
				t.Error(err)
			}
		}()
	}
	r.run(v.Run)
	t.Cleanup(func() {
		cancel()
		for _, w := range waits {
			<-w
		}
		_ = s.Close()
	})
	return r
}

func (r *rig) put(t *testing.T, state release.State) {
	t.Helper()
	rev, err := r.store.Commit(t.Context(), store.Txn{Puts: []store.KV{{
		Key: view.HeadKey(manifest.KindAgent, "default", "bot"), Value: view.Encode(view.AgentHead{Name: "bot", State: state}),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cfg.View.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) hello(id string) fleet.Key {
	return r.table.Hello(fleet.Hello{
		ID: snapshot.InstanceID{Namespace: "default", Agent: "bot", Instance: id}, Version: "v1", Endpoints: []string{"http://127.0.0.1:8800"},
	}, time.Now()).Key
}

func TestStatusShowsWhatInstancesAnswered(t *testing.T) {
	r := newRig(t)
	fault := phase.Fault{Resource: "mcp/x", Field: "tools.allow[0]", Code: phase.ToolMissing, Message: "no such tool", Severity: phase.Error}
	r.put(t, release.State{Last: 2, Stable: 1, Proven: 1, LastRefusal: &release.LastRefusal{
		Revision: 2, Config: "2-abcd", Instance: "i1", Faults: []phase.Fault{fault}, Action: release.ActionRolledBack, RolledBackTo: 1, At: time.Unix(5, 0),
	}})
	key := r.hello("i1")
	r.table.Offer(key, fleet.Offer{Desired: ref(2, "b")}, time.Now())
	r.table.Report(key, fleet.Report{Phase: phase.Rejected, Desired: ref(2, "b").Token, Faults: []phase.Fault{fault}}, time.Now())
	resp, err := r.GetStatus(admin(t), connect.NewRequest(&releasev1.GetStatusRequest{Agent: "bot"}))
	if err != nil {
		t.Fatal(err)
	}
	st := resp.Msg.GetStatus()
	i := st.GetInstances()[0]
	if i.GetPhase() != "REJECTED" || i.GetFaults()[0].GetCode() != "tool_missing" || i.GetDesired().GetRevision() != 2 || i.GetRunning() != nil ||
		st.GetLastRefusal().GetAction() != "rolled_back" || st.GetLastRefusal().GetRolledBackTo() != 1 || st.GetConfig() != ref(2, "b").Config() ||
		i.GetEndpoint() != "http://127.0.0.1:8800" || !st.GetFleetComplete() {
		t.Errorf("got %v", st)
	}
	if _, err := r.GetStatus(admin(t), connect.NewRequest(&releasev1.GetStatusRequest{Agent: "BOT"})); !errs.Is(err, errs.NotFound) {
		t.Errorf("another case: %v", err)
	}
	list, err := r.ListStatus(admin(t), connect.NewRequest(&releasev1.ListStatusRequest{AllNamespaces: true}))
	if err != nil || len(list.Msg.GetStatuses()) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	info, err := r.Info(admin(t), connect.NewRequest(&releasev1.InfoRequest{}))
	if err != nil || len(info.Msg.GetClusterId()) != 32 || info.Msg.GetRuntimeAddress() == "" {
		t.Errorf("info: %v, %v", info, err)
	}
}

func TestWatchesFollow(t *testing.T) {
	r := newRig(t)
	r.put(t, release.State{Last: 1, Stable: 1, Unproven: true})
	r.run(r.Watch)
	_, h := releasev1connect.NewStatusServiceHandler(r.Service)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h.ServeHTTP(w, req.WithContext(access.With(req.Context(), access.Principal{Name: "admin", Admin: true})))
	}))
	defer srv.Close()
	client := releasev1connect.NewStatusServiceClient(srv.Client(), srv.URL)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	statuses, err := client.WatchStatus(ctx, connect.NewRequest(&releasev1.WatchStatusRequest{Agent: "bot"}))
	if err != nil {
		t.Fatal(err)
	}
	if !statuses.Receive() || statuses.Msg().GetStatus().GetCondition() != "Unproven" {
		t.Fatalf("first: %v %v", statuses.Msg(), statuses.Err())
	}
	events, err := client.WatchEvents(ctx, connect.NewRequest(&releasev1.WatchEventsRequest{Agent: "bot", Follow: true}))
	if err != nil {
		t.Fatal(err)
	}
	key := r.hello("i1")
	r.table.Offer(key, fleet.Offer{Desired: ref(1, "a")}, time.Now())
	r.table.Report(key, fleet.Report{Phase: phase.Applied, Desired: ref(1, "a").Token, Running: ref(1, "a")}, time.Now())
	r.put(t, release.State{Last: 2, Stable: 1, Proven: 1, LastMove: release.MoveReturn, LastMoveAt: time.Unix(9, 0)})
	var types []string
	for !slices.Contains(types, EventApplied) || !slices.Contains(types, EventRolledBack) {
		if !events.Receive() {
			t.Fatal(events.Err())
		}
		types = append(types, events.Msg().GetEvent().GetType())
	}
	if !slices.Contains(types, EventConnected) {
		t.Errorf("events: %v", types)
	}
	for {
		if !statuses.Receive() {
			t.Fatal(statuses.Err())
		}
		if st := statuses.Msg().GetStatus(); st.GetCondition() == "Synced" && len(st.GetInstances()) == 1 {
			break
		}
	}
	cancel()
	_, _ = statuses.Close(), events.Close()
}

// admin is the context of a caller who may everything.
func admin(t *testing.T) context.Context {
	t.Helper()
	return access.With(t.Context(), access.Principal{Name: "admin", Admin: true})
}
