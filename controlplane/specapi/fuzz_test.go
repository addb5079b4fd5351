package specapi

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/secret"
)

// fuzzBytes bounds one input of FuzzApply.
const fuzzBytes = 32 << 10

// FuzzApply: no file makes an apply panic or fail for a reason that is ours; what is taken can be read, exported and applied again,
// and is then unchanged. The file takes the place of one of a good set, or comes beside it.
func FuzzApply(f *testing.F) {
	set := whole()
	paths := []string{"set/bot/memory.json", "set/bot/partner-agents.json", "set/bot/knowledge.json", "set/credentials/key.json", "set/all.yaml", "-"}
	for _, file := range set {
		paths = append(paths, file.GetPath())
	}
	for i, p := range paths {
		for _, file := range set {
			if file.GetPath() == p {
				f.Add(byte(i), string(file.GetContent()))
			}
		}
	}
	for i, content := range []string{
		`{"storageType": "redis", "address": "127.0.0.1:6379", "credential": {"password": "p-canary-12345"}}`,
		`{"agents": [{"agentName": "other", "headers": {"X-Key": "k-canary-12345"}}]}`,
		`{"knowledgeBases": [{"name": "kb", "endpoint": "http://127.0.0.1:3"}]}`,
		`{"name": "key", "value": "v-canary-12345"}`,
		"kind: Prompt\nmetadata: {name: bot}\nspec: {version: 2.0.0, template: 'hi {{name}}'}\n---\nkind: Agent\nmetadata: {name: x}\nspec: {}\n",
		"kind: Agent\nmetadata: {name: bot}\nspec:\n  promptKey: bot\n  model: {model: m, extraBody: {n: 1e20}}\n",
	} {
		f.Add(byte(i), content)
	}
	kek, err := secret.CreateFileKEK(filepath.Join(f.TempDir(), "kek"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, where byte, content string) {
		if len(content) > fuzzBytes {
			return
		}
		path := paths[int(where)%len(paths)]
		files := []*specv1.File{{Path: path, Content: []byte(content)}}
		for _, file := range whole() {
			if file.GetPath() != path {
				files = append(files, file)
			}
		}
		svc, ctx := fuzzService(t, kek)
		apply := func(files []*specv1.File) (*specv1.ApplyResponse, bool) {
			resp, err := svc.Apply(ctx, connect.NewRequest(&specv1.ApplyRequest{Files: files}))
			if err != nil {
				switch code := connect.CodeOf(err); code {
				case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeNotFound, connect.CodeResourceExhausted, connect.CodeAborted:
				default:
					t.Fatalf("%s: %v", code, err)
				}
				return nil, false
			}
			return resp.Msg, true
		}
		first, ok := apply(files)
		if !ok {
			return
		}
		for _, r := range first.GetResults() {
			req := &specv1.GetRequest{Kind: r.GetKind(), Name: r.GetName(), Namespace: r.GetNamespace()}
			if _, err := svc.Get(ctx, connect.NewRequest(req)); err != nil {
				t.Errorf("%s/%s was taken and can't be read: %v", r.GetKind(), r.GetName(), err)
			}
		}
		second, ok := apply(files)
		if !ok {
			t.Fatal("the same set is refused the second time")
		}
		for _, r := range second.GetResults() {
			if r.GetAction() != "unchanged" {
				t.Errorf("the same set again: %s/%s is %s", r.GetKind(), r.GetName(), r.GetAction())
			}
		}
	})
}

// fuzzService is a service over a store of its own.
func fuzzService(t *testing.T, kek secret.KEK) (*Service, context.Context) {
	t.Helper()
	s := memstore.New()
	if _, err := view.Init(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	v, err := view.Open(t.Context(), view.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	vault, err := OpenVault(t.Context(), VaultConfig{Store: s, KEK: kek})
	if err != nil {
		t.Fatal(err)
	}
	svc, err := New(Config{Store: s, View: v, Vault: vault, Fleet: &fakeFleet{}, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = v.Run(ctx) // it ends with ctx
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = s.Close()
	})
	return svc, access.With(ctx, access.Principal{Name: "fuzz", Admin: true})
}
