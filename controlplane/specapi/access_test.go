package specapi

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
)

// as is the context of a user to whom some bindings are made: of its own name, unless they name a subject.
func (r *rig) as(bindings ...access.Binding) context.Context {
	r.t.Helper()
	c, err := access.NewCompiler()
	if err != nil {
		r.t.Fatal(err)
	}
	var grants []*access.Grant
	for i, b := range bindings {
		b.Name, b.Namespace, b.Subjects = "b"+string(rune('0'+i)), "default", []string{"user:ada"}
		g, err := c.Grant(b)
		if err != nil {
			r.t.Fatal(err)
		}
		grants = append(grants, g)
	}
	return access.With(r.t.Context(), access.Principal{Name: "user:ada", Kind: access.User, Rules: access.NewPolicy(nil, grants)})
}

var (
	viewer = access.Binding{Role: "viewer"}
	editor = access.Binding{Role: "editor"}
	user   = access.Binding{Role: "credential-user"}
	writer = access.Binding{Role: "secret-writer"}
)

const (
	plainModel = `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1", "apiKey": {"credentialRef": "shared"}}`
	sharedFile = "kind: Credential\nmetadata: {name: shared}\nspec: {value: sk-canary-shared-1}\n"
)

func TestWhoMayApply(t *testing.T) {
	named := files(basePath, base, modelPath, plainModel, promptPath, promptA)
	inline := files(basePath, base, modelPath, model, promptPath, promptA)
	cases := map[string]struct {
		who    []access.Binding
		set    []*specv1.File
		before []*specv1.File // applied by an administrator after the credential
		want   errs.Kind
		says   string
	}{
		"nobody":                          {set: named, want: errs.Denied, says: "needs spec.write on prompt default/bot"},
		"viewer":                          {who: []access.Binding{viewer}, set: named, want: errs.Denied, says: "needs spec.write"},
		"editor without use":              {who: []access.Binding{editor}, set: named, want: errs.Denied, says: "user:ada needs credential.use on credential default/shared"},
		"editor with use":                 {who: []access.Binding{editor, user}, set: named},
		"editor, named before":            {who: []access.Binding{editor}, set: files(basePath, base, modelPath, strings.Replace(plainModel, `"m"`, `"n"`, 1)), before: named},
		"editor, inline secret":           {who: []access.Binding{editor}, set: inline, want: errs.Denied, says: "needs credential.write on credential default/bot.model.apiKey"},
		"editor, inline secret, use only": {who: []access.Binding{editor, user}, set: inline, want: errs.Denied, says: "credential.write"},
		"editor who writes secrets":       {who: []access.Binding{editor, writer}, set: inline},
		"editor, a credential's file":     {who: []access.Binding{editor}, set: files("c.yaml", sharedFile), want: errs.Denied, says: "needs credential.write on credential default/shared"},
		"editor of one agent": {
			who: []access.Binding{{Role: "editor", Kind: "agent", Object: "bot"}, user},
			set: files(basePath, base, modelPath, plainModel), before: files(promptPath, promptA),
			want: errs.Invalid, says: "prompt bot doesn't exist",
		},
		"editor of one agent who reads its prompt": {
			who: []access.Binding{{Role: "editor", Kind: "agent", Object: "bot"}, {Role: "viewer", Kind: "prompt", Object: "bot"}, user},
			set: files(basePath, base, modelPath, plainModel), before: files(promptPath, promptA),
		},
		"editor of another agent": {
			who: []access.Binding{{Role: "editor", Kind: "agent", Object: "other"}, viewer},
			set: files(basePath, base), before: named, want: errs.Denied, says: "needs spec.write on agent default/bot",
		},
		"by the label that it has": {
			who:    []access.Binding{{Role: "editor", Kind: "agent", Selector: []string{"team=a"}}, viewer},
			set:    files(basePath, `{"promptKey": "bot", "labels": {"team": "a"}, "description": "new"}`, modelPath, plainModel),
			before: files(basePath, `{"promptKey": "bot", "labels": {"team": "a"}}`, modelPath, plainModel, promptPath, promptA),
		},
		"by a label that it gives away": {
			who:    []access.Binding{{Role: "editor", Kind: "agent", Selector: []string{"team=a"}}, viewer},
			set:    files(basePath, `{"promptKey": "bot", "labels": {"team": "b"}}`, modelPath, plainModel),
			before: files(basePath, `{"promptKey": "bot", "labels": {"team": "a"}}`, modelPath, plainModel, promptPath, promptA),
			want:   errs.Denied, says: "needs spec.write on agent default/bot",
		},
		"by a label that it takes": {
			who:    []access.Binding{{Role: "editor", Kind: "agent", Selector: []string{"team=a"}}, viewer},
			set:    files(basePath, `{"promptKey": "bot", "labels": {"team": "a"}}`, modelPath, plainModel),
			before: files(basePath, `{"promptKey": "bot", "labels": {"team": "b"}}`, modelPath, plainModel, promptPath, promptA),
			want:   errs.Denied, says: "needs spec.write on agent default/bot",
		},
	}
	for name, c := range cases {
		for _, dry := range []bool{true, false} {
			t.Run(name+map[bool]string{true: ", dry run"}[dry], func(t *testing.T) {
				r := newRig(t)
				r.mustApply(files("c.yaml", sharedFile))
				if c.before != nil {
					r.mustApply(c.before)
				}
				at := r.newest()
				_, err := r.Apply(r.as(c.who...), connect.NewRequest(&specv1.ApplyRequest{Files: c.set, DryRun: dry}))
				if c.says == "" {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				kind := errs.KindOf(err)
				if connect.CodeOf(err) == connect.CodeInvalidArgument {
					kind = errs.Invalid
				}
				if err == nil || kind != c.want || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %v %q", err, c.want, c.says)
				}
				if r.newest() != at {
					t.Error("something was written")
				}
			})
		}
	}
}

func TestAMovedCredentialNeedsUse(t *testing.T) {
	r := newRig(t)
	r.mustApply(files("c.yaml", sharedFile))
	r.mustApply(files(basePath, base, modelPath, plainModel, promptPath, promptA, mcpPath, tools))
	moved := files(basePath, base, modelPath, `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1"}`,
		serverPath, `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Number": "7", "X-Key": {"credentialRef": "shared"}}}]}`)
	_, err := r.Apply(r.as(editor), connect.NewRequest(&specv1.ApplyRequest{Files: moved}))
	if !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "credential.use") {
		t.Errorf("got %v", err)
	}
	if _, err := r.Apply(r.as(editor, user), connect.NewRequest(&specv1.ApplyRequest{Files: moved})); err != nil {
		t.Error(err)
	}
}

// TestARedirectedCredentialNeedsUse: who may write an agent or an entry, but not use a credential, can't send it to a server of theirs.
func TestARedirectedCredentialNeedsUse(t *testing.T) {
	r := newRig(t)
	r.mustApply(files("c.yaml", sharedFile))
	model := func(url string) string {
		return `{"model": "m", "baseUrl": "` + url + `", "apiKey": {"credentialRef": "shared"}}`
	}
	entry := func(version, url string) string {
		return `{"name": "tools", "version": "` + version + `", "endpoint": "` + url + `", "parameters": {"headers": {"X-Key": {}}}}`
	}
	servers := `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Key": {"credentialRef": "shared"}}}]}`
	r.mustApply(files(basePath, base, modelPath, model("https://good.example.org/v1"), serverPath, servers, promptPath, promptA, mcpPath, entry("1.0.0", "https://tools.example.org/mcp")))
	agent := func(url string) []*specv1.File {
		return files(basePath, base, modelPath, model(url), serverPath, servers)
	}
	for name, tc := range map[string]struct {
		files  []*specv1.File
		denied bool
	}{
		"another path of the same server":       {agent("https://good.example.org/v2"), false},
		"another server":                        {agent("https://evil.example.org/v1"), true},
		"another port":                          {agent("https://good.example.org:8443/v1"), true},
		"without TLS":                           {agent("http://good.example.org/v1"), true},
		"another path of the same entry":        {files(mcpPath, entry("1.0.1", "https://tools.example.org/other")), false},
		"an entry that leads elsewhere":         {files(mcpPath, entry("1.0.1", "https://evil.example.org/mcp")), true},
		"one beside an agent that is as it was": {append(agent("https://good.example.org/v1"), files(mcpPath, entry("1.0.1", "https://evil.example.org/mcp"))...), true},
		"one beside an agent that lets it go": {append(files(basePath, base, modelPath, model("https://good.example.org/v1"), serverPath, `{"mcpServers": []}`),
			files(mcpPath, entry("1.0.1", "https://evil.example.org/mcp"))...), true},
	} {
		apply := func(who ...access.Binding) error {
			_, err := r.Apply(r.as(who...), connect.NewRequest(&specv1.ApplyRequest{Files: tc.files, DryRun: true}))
			return err
		}
		if err := apply(editor); errs.Is(err, errs.Denied) != tc.denied || (err != nil && !strings.Contains(err.Error(), "credential.use")) {
			t.Errorf("%s: %v", name, err)
		}
		if err := apply(editor, user); err != nil {
			t.Errorf("%s, who may use it: %v", name, err)
		}
	}
}

func twoTeams(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	var all []*specv1.File
	for _, name := range []string{"a1", "a2", "a3", "a4", "a5"} {
		team := map[bool]string{true: "even", false: "odd"}[name[1]%2 == 0]
		all = append(all, files(
			"set/"+name+"/agent-base.json", `{"promptKey": "bot", "labels": {"team": "`+team+`"}}`,
			"set/"+name+"/model.json", `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1"}`)...)
	}
	r.mustApply(append(all, files(promptPath, promptA, mcpPath, tools, "c.yaml", sharedFile)...))
	return r
}

func TestListsHoldOnlyWhatTheCallerMaySee(t *testing.T) {
	r := twoTeams(t)
	odd := r.as(access.Binding{Role: "viewer", Kind: "agent", Selector: []string{"team=odd"}})
	for _, size := range []int32{1, 2, 3, 100} {
		var got []string
		pages, token := 0, ""
		for {
			resp, err := r.List(odd, connect.NewRequest(&specv1.ListRequest{Kind: kindAgent, PageSize: size, PageToken: token}))
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, o := range resp.Msg.GetObjects() {
				got = append(got, o.GetName())
			}
			if token = resp.Msg.GetNextPageToken(); token == "" {
				break
			}
		}
		if d := cmp.Diff([]string{"a1", "a3", "a5"}, got); d != "" {
			t.Error(d)
		}
		if want := (3 + int(size) - 1) / int(size); pages != want {
			t.Errorf("%d at a time: %d pages", size, pages)
		}
	}
	for kind, want := range map[string][]string{kindPrompt: nil, kindMCP: nil, kindCredential: nil} {
		resp, err := r.List(odd, connect.NewRequest(&specv1.ListRequest{Kind: kind}))
		if err != nil || len(resp.Msg.GetObjects()) != len(want) {
			t.Errorf("%s: %v %v", kind, resp, err)
		}
	}
	export, err := r.Export(odd, connect.NewRequest(&specv1.ExportRequest{WithReferences: true}))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range export.Msg.GetFiles() {
		if !slices.ContainsFunc([]string{"a1", "a3", "a5"}, func(n string) bool { return strings.Contains(f.GetPath(), n) }) {
			t.Errorf("exported %s", f.GetPath())
		}
	}
}

func TestNotYoursLooksAsIfItWereNotThere(t *testing.T) {
	r := twoTeams(t)
	odd := r.as(access.Binding{Role: "editor", Kind: "agent", Selector: []string{"team=odd"}})
	diff := func(ctx context.Context, name string) error {
		_, err := r.Diff(ctx, connect.NewRequest(&specv1.DiffRequest{Kind: kindAgent, Name: name}))
		return err
	}
	export := func(ctx context.Context, name string) error {
		_, err := r.Export(ctx, connect.NewRequest(&specv1.ExportRequest{Kind: kindAgent, Names: []string{name}}))
		return err
	}
	for name, ask := range map[string]func(context.Context, string) error{"diff": diff, "export": export} {
		t.Run(name, func(t *testing.T) {
			hidden, missing, admins := ask(odd, "a2"), ask(odd, "zz"), ask(r.ctx(), "zz")
			for _, err := range []error{hidden, missing, admins} {
				if !errs.Is(err, errs.NotFound) {
					t.Fatalf("got %v", err)
				}
			}
			if strings.ReplaceAll(hidden.Error(), "a2", "zz") != missing.Error() || missing.Error() != admins.Error() {
				t.Errorf("%v / %v / %v", hidden, missing, admins)
			}
			if err := ask(odd, "a1"); err != nil {
				t.Error(err)
			}
		})
	}
	// A reference to what isn't seen is a reference to nothing, and no name is told that isn't seen.
	r.mustApply(files("set/prompts/hidden.json", `{"promptKey": "hidden", "version": "1.0.0", "template": "You hide."}`))
	for _, prompt := range []string{"hidden", "hiddn"} {
		set := files("set/a1/agent-base.json", `{"promptKey": "`+prompt+`", "labels": {"team": "odd"}}`, "set/a1/model.json", `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1"}`)
		_, err := r.Apply(odd, connect.NewRequest(&specv1.ApplyRequest{Files: set}))
		if connect.CodeOf(err) != connect.CodeInvalidArgument || strings.Contains(err.Error(), "did you mean") {
			t.Errorf("got %v", err)
		}
	}
}

func TestDeletingACredentialNeedsToWriteIt(t *testing.T) {
	r := twoTeams(t)
	del := func(ctx context.Context) error {
		_, err := r.Delete(ctx, connect.NewRequest(&specv1.DeleteRequest{Kind: kindCredential, Name: "shared"}))
		return err
	}
	if err := del(r.as(editor)); !errs.Is(err, errs.Denied) {
		t.Errorf("got %v", err)
	}
	if err := del(r.as(editor, writer)); err != nil {
		t.Error(err)
	}
}

func TestAWatchTellsWhenAnObjectIsNoLongerSeen(t *testing.T) {
	r := newRig(t)
	sees := map[string]bool{"a": true}
	w := watching{sent: map[headKey]string{}, who: caller{svc: r.Service, who: access.Principal{Name: "user:ada", Rules: seeing(sees)}}}
	var got []string
	show := func(name string, deleted bool) {
		o := &specv1.Object{Kind: kindPrompt, Namespace: "default", Name: name, Json: "{}", Deleted: deleted}
		if resp := w.change(o); resp != nil {
			got = append(got, resp.GetType()+" "+resp.GetObject().GetName()+" "+resp.GetObject().GetJson())
		}
	}
	show("a", false)
	show("b", false)
	sees["a"] = false
	show("a", false)
	show("a", false)
	sees["a"] = true
	show("a", true)
	if d := cmp.Diff([]string{"changed a {}", "deleted a ", "deleted a {}"}, got); d != "" {
		t.Error(d)
	}
}

type seeing map[string]bool

// Allowed answers by name.
func (s seeing) Allowed(_ access.Principal, _ string, o access.Object) bool { return s[o.Name] }

// Somewhere is the gate's question.
func (s seeing) Somewhere(access.Principal, string, string) bool { return true }

func TestApplyTellsTheAuditLog(t *testing.T) {
	r := newRig(t)
	told, err := New(Config{
		Store: audit.Wrap(r.store, audit.Origin{Replica: "r", Now: r.tick}), View: r.view, Vault: r.vault, Fleet: r.fleet, Now: r.tick,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := audit.NewDraft(audit.Call{Actor: "dev", Method: "/apply"})
	if _, err := told.Apply(audit.With(r.ctx(), d), connect.NewRequest(&specv1.ApplyRequest{Files: whole(), Message: "because"})); err != nil {
		t.Fatal(err)
	}
	page, err := r.store.List(t.Context(), view.AuditPrefix, store.ListOptions{})
	if err != nil || len(page.KVs) != 1 {
		t.Fatalf("%d entries, %v", len(page.KVs), err)
	}
	entry := string(page.KVs[0].Value)
	for _, want := range []string{`"because"`, `"agent/bot"`, `"credential/bot.model.apiKey"`, `"path":"promptKey"`, `\"credentialRef\":\"bot.model.apiKey\"`} {
		if !strings.Contains(entry, want) {
			t.Errorf("no %s in %s", want, entry)
		}
	}
	if strings.Contains(entry, "canary") {
		t.Errorf("a secret: %s", entry)
	}
}
