package specapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

func iterations(n int) []*specv1.File {
	return files(basePath, fmt.Sprintf(`{"promptKey": "bot", "maxIterations": %d}`, n), modelPath, model, serverPath, servers)
}

func TestHistoryMergesOwnAndSharedMoves(t *testing.T) {
	r := newRig(t)
	r.mustApply(files(promptPath, promptA))
	r.mustApply(whole())
	r.mustApply(files(promptPath, promptB))
	r.mustApply(iterations(3))
	if _, err := r.Rollback(r.ctx(), connect.NewRequest(&specv1.RollbackRequest{Name: "bot", To: "1", Force: true, Message: "too few"})); err != nil {
		t.Fatal(err)
	}
	resp, err := r.History(r.ctx(), connect.NewRequest(&specv1.HistoryRequest{Kind: "agent", Name: "bot"}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range resp.Msg.GetEntries() {
		if !strings.HasPrefix(e.GetTo(), "credential/") {
			got = append(got, fmt.Sprintf("%s %d %s>%s %s %s %s", e.GetKind(), e.GetRevision(), e.GetFrom(), e.GetTo(), e.GetActor(), e.GetCause(), e.GetState()))
		}
	}
	want := []string{
		"move 1 2>1 dev rollback ",
		"revision 2 1>2 dev apply rolled_back",
		"move 0 prompt/bot@1.0.0>prompt/bot@1.0.1 dev apply ",
		"revision 1 >1 dev apply stable",
		"move 0 >mcp/tools@1.0.0 dev apply ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	shared, err := r.History(r.ctx(), connect.NewRequest(&specv1.HistoryRequest{Kind: "prompt", Name: "bot"}))
	if err != nil || len(shared.Msg.GetEntries()) != 2 || shared.Msg.GetEntries()[0].GetTo() != "1.0.1" {
		t.Errorf("prompt history: %v, %v", shared, err)
	}
}

func TestRollback(t *testing.T) {
	cases := map[string]struct {
		req  *specv1.RollbackRequest
		want errs.Kind
		ok   bool
	}{
		"forced to an older one":   {req: &specv1.RollbackRequest{Name: "bot", To: "1", Force: true}, ok: true},
		"to one never proven":      {req: &specv1.RollbackRequest{Name: "bot", To: "1"}, want: errs.Precondition},
		"nothing proven before":    {req: &specv1.RollbackRequest{Name: "bot"}, want: errs.Precondition},
		"a revision that isn't":    {req: &specv1.RollbackRequest{Name: "bot", To: "9"}, want: errs.NotFound},
		"a config nobody applied":  {req: &specv1.RollbackRequest{Name: "bot", To: "1-3f2a91c4"}, want: errs.NotFound},
		"a config without a hash":  {req: &specv1.RollbackRequest{Name: "bot", To: "1-"}, want: errs.NotFound},
		"no number":                {req: &specv1.RollbackRequest{Name: "bot", To: "first"}, want: errs.Invalid},
		"an agent that isn't":      {req: &specv1.RollbackRequest{Name: "nobody"}, want: errs.NotFound},
		"a revision that moved on": {req: &specv1.RollbackRequest{Name: "bot", To: "1", Force: true, CheckRevision: new(int64)}, want: errs.Conflict},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.mustApply(whole())
			r.mustApply(iterations(3))
			resp, err := r.Rollback(r.ctx(), connect.NewRequest(c.req))
			if !c.ok {
				if !errs.Is(err, c.want) {
					t.Errorf("got %v, want kind %v", err, c.want)
				}
				return
			}
			if err != nil || resp.Msg.GetFrom() != 2 || resp.Msg.GetTo() != 1 || resp.Msg.GetStoreRevision() == 0 {
				t.Errorf("got %v, %v", resp, err)
			}
		})
	}
}

func TestRollbackToAConfigPinsIt(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	head, _, _ := r.view.Agent("default", "bot")
	lines := []manifest.Line{
		{Kind: kindAgent, Name: "bot", Version: "-", SHA256: head.State.Revisions[0].Spec},
		{Kind: kindPrompt, Name: "bot", Version: "1.0.0", SHA256: manifest.Sum([]byte("x"))},
		{Kind: kindCredential, Name: "bot.model.apiKey", Version: "9"},
	}
	manifest.Sort(lines)
	hash := manifest.Of(lines)
	rev, err := r.store.Commit(r.t.Context(), store.Txn{Puts: []store.KV{{
		Key: view.AppliedKey("default", "bot", hash), Value: view.Encode(view.Applied{Revision: 1, Lines: lines}),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.view.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	r.mustApply(iterations(3))
	config := manifest.ConfigName(1, hash)
	resp, err := r.Rollback(r.ctx(), connect.NewRequest(&specv1.RollbackRequest{Name: "bot", To: config, Force: true}))
	if err != nil || resp.Msg.GetTo() != 1 {
		t.Fatalf("got %v, %v", resp, err)
	}
	want := []string{"credential/bot.model.apiKey: the value of that time isn't kept any more; today's is used"}
	if diff := cmp.Diff(want, resp.Msg.GetNotes()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	head, _, _ = r.view.Agent("default", "bot")
	if p := head.State.Pin; p == nil || p.Config() != config || len(p.Lines) != 1 || p.Lines[0].Kind != kindPrompt {
		t.Errorf("pin %+v", p)
	}
	r.mustApply(iterations(4))
	if head, _, _ = r.view.Agent("default", "bot"); head.State.Pin != nil {
		t.Error("the next apply didn't end the pin")
	}
}

func (r *rig) delete(kind, name string, force bool) error {
	_, err := r.Delete(r.ctx(), connect.NewRequest(&specv1.DeleteRequest{Kind: kind, Name: name, Force: force}))
	return err
}

func (r *rig) get(kind, name, version string) (*specv1.Object, error) {
	resp, err := r.Get(r.ctx(), connect.NewRequest(&specv1.GetRequest{Kind: kind, Name: name, Version: version}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetObject(), nil
}

func TestDeleteAndMakeAgain(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	for _, x := range [][2]string{{"prompt", "bot"}, {"mcp", "tools"}, {"credential", "bot.model.apiKey"}} {
		if err := r.delete(x[0], x[1], false); !errs.Is(err, errs.Precondition) || !strings.Contains(err.Error(), "agent/bot") {
			t.Errorf("delete %v, which is referred to: %v", x, err)
		}
	}
	if err := r.delete("agent", "bot", false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.get("agent", "bot", ""); !errs.Is(err, errs.NotFound) {
		t.Errorf("get a deleted agent: %v", err)
	}
	if err := r.delete("agent", "bot", false); !errs.Is(err, errs.NotFound) {
		t.Errorf("delete twice: %v", err)
	}
	if err := r.delete("prompt", "bot", false); err != nil {
		t.Errorf("nobody refers to it any more: %v", err)
	}
	r.mustApply(files(promptPath, promptA, "set/other/agent-base.json", base, "set/other/model.json", `{"model": "m", "apiKey": {"credentialRef": "bot.model.apiKey"}}`))
	if err := r.delete("credential", "bot.model.apiKey", true); err != nil {
		t.Errorf("forced: %v", err)
	}
	if _, err := r.Reveal("default", "bot.model.apiKey", 1); !errs.Is(err, errs.NotFound) {
		t.Errorf("a deleted credential opens: %v", err)
	}
	got := actions(r.mustApply(whole()))
	if got["agent/bot"] != "created 2" || got["prompt/bot"] != "unchanged 1" || got["credential/bot.model.apiKey"] != "created 2" {
		t.Errorf("made again: %v", got)
	}
}

func TestGetListExport(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	r.mustApply(files(promptPath, promptB))
	r.mustApply(files("set/second/agent-base.json", `{"promptKey": "bot", "labels": {"team": "a"}}`, "set/second/model.json", model))
	for _, c := range []struct{ kind, name, version, want string }{
		{"prompt", "bot", "", "1.0.1"}, {"prompt", "bot", "1.0.0", "1.0.0"}, {"prompt", "bot", "latest", "1.0.1"}, {"mcp", "tools", "", "1.0.0"},
	} {
		if o, err := r.get(c.kind, c.name, c.version); err != nil || o.GetVersion() != c.want || o.GetJson() == "" {
			t.Errorf("get %v: %v, %v", c, o, err)
		}
	}
	if o, err := r.get("agent", "bot", "1-3f2a91c4"); err != nil || o.GetRevision() != 1 {
		t.Errorf("get by config: %v, %v", o, err)
	}
	if o, err := r.get("credential", "bot.model.apiKey", ""); err != nil || o.GetJson() != "" {
		t.Errorf("a credential shows %q, %v", o.GetJson(), err)
	}
	list := func(req *specv1.ListRequest) (names []string, next string) {
		t.Helper()
		resp, err := r.List(r.ctx(), connect.NewRequest(req))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range resp.Msg.GetObjects() {
			names = append(names, o.GetName())
		}
		return names, resp.Msg.GetNextPageToken()
	}
	first, next := list(&specv1.ListRequest{Kind: "agent", PageSize: 1})
	second, end := list(&specv1.ListRequest{Kind: "agent", PageSize: 1, PageToken: next})
	if diff := cmp.Diff([]string{"bot", "second"}, append(first, second...)); diff != "" || end != "" {
		t.Errorf("pages: %s end %q", diff, end)
	}
	if names, _ := list(&specv1.ListRequest{Kind: "agent", Selector: []string{"team=a"}}); len(names) != 1 || names[0] != "second" {
		t.Errorf("selected: %v", names)
	}
	exported, err := r.Export(r.ctx(), connect.NewRequest(&specv1.ExportRequest{Kind: "agent", Names: []string{"bot"}, WithReferences: true}))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range exported.Msg.GetFiles() {
		if strings.Contains(string(f.GetContent()), "canary") {
			t.Errorf("%s shows a secret", f.GetPath())
		}
		f.Path = "set/" + f.GetPath()
	}
	for what, did := range actions(r.mustApply(exported.Msg.GetFiles())) {
		if !strings.HasPrefix(did, actionUnchanged) {
			t.Errorf("applying what was exported: %s %s", what, did)
		}
	}
	d, err := r.Diff(r.ctx(), connect.NewRequest(&specv1.DiffRequest{Kind: "prompt", Name: "bot", VersionA: "1.0.0", VersionB: "1.0.1"}))
	if err != nil || len(d.Msg.GetDiffs()) != 1 || d.Msg.GetDiffs()[0].GetChanges()[0].GetPath() != "template" {
		t.Errorf("diff: %v, %v", d, err)
	}
	if s, err := r.Schema(r.ctx(), connect.NewRequest(&specv1.SchemaRequest{Kind: "prompt"})); err != nil || !strings.Contains(s.Msg.GetJsonSchema(), "template") {
		t.Errorf("schema: %v, %v", s, err)
	}
}

func TestStoreGoneFailsFast(t *testing.T) {
	r := newRig(t)
	r.store.FailNext(errs.New(errs.Timeout, "no quorum"))
	if _, err := r.apply(whole()); !errs.Is(err, errs.Unavailable) {
		t.Errorf("got %v", err)
	}
	r.mustApply(whole())
}

func TestWatchResumes(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	mux := http.NewServeMux()
	mux.Handle(specv1connect.NewSpecServiceHandler(r.Service))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mux.ServeHTTP(w, q.WithContext(access.With(q.Context(), access.Principal{Name: "dev", Admin: true})))
	}))
	defer srv.Close()
	client := specv1connect.NewSpecServiceClient(srv.Client(), srv.URL)
	var more []bool
	watch := func(since int64, n int, during func()) (seen []string, last int64) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := client.Watch(ctx, connect.NewRequest(&specv1.WatchRequest{Kind: "prompt", SinceRevision: since}))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { cancel(); _ = stream.Close() }()
		for len(seen) < n {
			if !stream.Receive() {
				t.Fatal(stream.Err())
			}
			m := stream.Msg()
			seen, last = append(seen, m.GetType()+" "+m.GetObject().GetVersion()), m.GetStoreRevision()
			more = append(more, m.GetMore())
			if m.GetType() == watchBookmark && during != nil {
				during()
			}
		}
		return seen, last
	}
	seen, at := watch(0, 3, func() { r.mustApply(files(promptPath, promptB)) })
	if diff := cmp.Diff([]string{"present 1.0.0", "bookmark ", "changed 1.0.1"}, seen); diff != "" {
		t.Error(diff)
	}
	r.mustApply(files(promptPath, strings.Replace(promptB, "1.0.1", "1.0.2", 1)))
	if seen, at = watch(at, 1, nil); seen[0] != "changed 1.0.2" {
		t.Errorf("resumed with %v", seen)
	}
	other := strings.Replace(strings.Replace(promptB, "1.0.1", "1.0.3", 1), "bot", "other", 1)
	r.mustApply(files(promptPath, strings.Replace(promptB, "1.0.1", "1.0.3", 1), "prompts/other.json", other))
	more = nil
	if seen, _ = watch(at, 2, nil); seen[0] != "changed 1.0.3" || !slices.Equal(more, []bool{true, false}) {
		t.Errorf("two changes of one revision came as %v, more %v", seen, more)
	}
}

func TestRacingAppliesAllCount(t *testing.T) {
	r := newRig(t)
	r.mustApply(whole())
	const racers = 4 // fewer than attempts: each round one of them wins
	errc := make(chan error, racers)
	for i := range racers {
		go func() {
			_, err := r.Apply(r.ctx(), connect.NewRequest(&specv1.ApplyRequest{Files: iterations(i + 2)}))
			errc <- err
		}()
	}
	for range racers {
		if err := <-errc; err != nil {
			t.Error(err)
		}
	}
	if o, err := r.get("agent", "bot", ""); err != nil || o.GetRevision() != racers+1 {
		t.Errorf("got revision %d, %v", o.GetRevision(), err)
	}
}
