package specapi

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
)

// fillAgents applies n agents in teams of ten that share one prompt.
func (r *rig) fillAgents(n int) {
	r.t.Helper()
	const perApply = 90
	for from := 0; from < n; from += perApply {
		set := files(promptPath, promptA)
		for i := from; i < min(from+perApply, n); i++ {
			dir := fmt.Sprintf("set/bot-%04d/", i)
			set = append(set, files(dir+"agent-base.json", fmt.Sprintf(`{"promptKey": "bot", "labels": {"team": "t%d"}}`, i/10),
				dir+"model.json", `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1"}`)...)
		}
		if _, err := r.Apply(r.ctx(), connect.NewRequest(&specv1.ApplyRequest{Files: set})); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestAnApplyCostsWhatItChanges counts what the view decodes for one apply among many agents.
func TestAnApplyCostsWhatItChanges(t *testing.T) {
	r := newRig(t)
	r.fillAgents(500)
	before, rev := r.view.Stats(), r.newest()
	_, err := r.Apply(r.ctx(), connect.NewRequest(&specv1.ApplyRequest{Files: files(
		"set/bot-0003/agent-base.json", `{"promptKey": "bot", "description": "another"}`, "set/bot-0003/model.json", `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1"}`)}))
	if err != nil {
		t.Fatal(err)
	}
	after := r.view.Stats()
	// The blob, the head and the log entry, in one transaction; the head and the log entry are decoded, the spec is read once.
	if events, decoded, parsed, touched := after.Events-before.Events, after.Decoded-before.Decoded, after.Parsed-before.Parsed, after.Touched-before.Touched; events != 3 || decoded != 2 || parsed != 1 || touched != 1 || after.Fetched != before.Fetched {
		t.Errorf("%d events, %d decoded, %d specs read, %d agents touched, %d fetched", events, decoded, parsed, touched, after.Fetched-before.Fetched)
	}
	if now := r.newest(); now != rev+1 {
		t.Errorf("%d store revisions, want 1", now-rev)
	}
}

func TestListPages(t *testing.T) {
	r := newRig(t)
	r.fillAgents(120)
	for _, i := range []int{0, 9, 50, 51, 119} {
		if _, err := r.Delete(r.ctx(), connect.NewRequest(&specv1.DeleteRequest{Kind: "agent", Name: fmt.Sprintf("bot-%04d", i)})); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		req  *specv1.ListRequest
		want int // objects
		most int // pages
	}{
		"by ten":                {&specv1.ListRequest{Kind: "agent", PageSize: 10}, 115, 12},
		"just as many":          {&specv1.ListRequest{Kind: "agent", PageSize: 115}, 115, 1},
		"one at a time":         {&specv1.ListRequest{Kind: "agent", PageSize: 1, Selector: []string{"team=t5"}}, 8, 8},
		"selected across pages": {&specv1.ListRequest{Kind: "agent", PageSize: 4, Selector: []string{"team=t11"}}, 9, 3},
		"none selected":         {&specv1.ListRequest{Kind: "agent", PageSize: 4, Selector: []string{"team=none"}}, 0, 1},
		"another namespace":     {&specv1.ListRequest{Kind: "agent", Namespace: "other"}, 0, 1},
		"all namespaces":        {&specv1.ListRequest{Kind: "agent", AllNamespaces: true, PageSize: 100}, 115, 2},
	} {
		t.Run(name, func(t *testing.T) {
			var names []string
			pages := 0
			for {
				resp, err := r.List(r.ctx(), connect.NewRequest(c.req))
				if err != nil {
					t.Fatal(err)
				}
				pages++
				for _, o := range resp.Msg.GetObjects() {
					names = append(names, o.GetName())
				}
				if c.req.PageToken = resp.Msg.GetNextPageToken(); c.req.GetPageToken() == "" {
					break
				}
			}
			if len(names) != c.want || pages != c.most || !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
				t.Errorf("%d names on %d pages, want %d on %d: %v", len(names), pages, c.want, c.most, names)
			}
		})
	}
}

// TestOldRevisionsAreRead: content that no head names any more comes from the store; while the store is away that is said.
func TestOldRevisionsAreRead(t *testing.T) {
	r := newRig(t)
	for i := range 3 {
		set := files(promptPath, promptA, "set/bot/agent-base.json", fmt.Sprintf(`{"promptKey": "bot", "description": "d%d"}`, i), modelPath, `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1"}`)
		if _, err := r.Apply(r.ctx(), connect.NewRequest(&specv1.ApplyRequest{Files: set})); err != nil {
			t.Fatal(err)
		}
	}
	fresh := *r.Service // its view has never seen the old specs
	var err error
	if fresh.view, err = view.Open(t.Context(), view.Config{Store: r.store, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	r.store.FailNext(errs.New(errs.Unavailable, "away"))
	get := func() error {
		_, err := fresh.Get(r.ctx(), connect.NewRequest(&specv1.GetRequest{Kind: "agent", Name: "bot", Version: "1"}))
		return err
	}
	if err := get(); !errs.Is(err, errs.Unavailable) {
		t.Errorf("error %v, want Unavailable", err)
	}
	if err := get(); err != nil {
		t.Error(err)
	}
}
