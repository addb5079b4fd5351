package specapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
)

// A restore takes a head out without leaving a tombstone: who watches hears of it, also who takes a watch up at a revision from before.
func TestAWatchTellsWhatARestoreTookOut(t *testing.T) {
	r := newRig(t)
	r.mustApply(files("prompts/Helper.json", `{"promptKey": "Helper", "version": "1.0.0", "template": "t"}`))
	mux := http.NewServeMux()
	mux.Handle(specv1connect.NewSpecServiceHandler(r.Service))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mux.ServeHTTP(w, q.WithContext(access.With(q.Context(), access.Principal{Name: "dev", Admin: true})))
	}))
	defer srv.Close()
	client := specv1connect.NewSpecServiceClient(srv.Client(), srv.URL)
	watch := func(since int64, n int, during func()) (seen []string, first int64) {
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
			seen = append(seen, m.GetType()+" "+m.GetObject().GetName())
			if first == 0 {
				first = m.GetStoreRevision()
			}
			if m.GetType() == watchBookmark && during != nil {
				during()
			}
		}
		return seen, first
	}
	seen, before := watch(0, 3, func() {
		_, err := r.store.Commit(t.Context(), store.Txn{Deletes: []string{view.HeadPrefix("prompt", "default") + "helper"}})
		if err != nil {
			t.Error(err)
		}
	})
	if diff := cmp.Diff([]string{"present Helper", "bookmark ", "deleted Helper"}, seen); diff != "" {
		t.Error(diff)
	}
	// From before it was made: its making and its end are both told as what is there now, which is nothing. How it was written is
	// known no more.
	seen, _ = watch(before-1, 2, nil)
	if diff := cmp.Diff([]string{"deleted helper", "deleted helper"}, seen); diff != "" {
		t.Error(diff)
	}
}
