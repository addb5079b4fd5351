package gate

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/errs"
)

// remembered knows one call that was carried out.
type remembered struct {
	begun []string // principal, key and method of each call
}

type begunKey struct{}

// Begin notes a call.
func (r *remembered) Begin(ctx context.Context, principal, key, method string, request proto.Message) (context.Context, error) {
	m, _ := request.(*registryv1.SetLabelRequest)
	r.begun = append(r.begun, fmt.Sprintf("%s %s %s %s", principal, key, method, m.GetPrompt()))
	switch key {
	case "done", "forgotten":
		return nil, &before{kept: key == "done"}
	case "bad":
		return nil, errs.New(errs.Invalid, "the key is bad")
	}
	return context.WithValue(ctx, begunKey{}, key), nil
}

// Refused knows of a try that came before.
func (*remembered) Refused(ctx context.Context, err error) error {
	if ctx.Value(begunKey{}) == "overtaken" && errs.Is(err, errs.Conflict) {
		return &before{kept: true}
	}
	return err
}

// before is a call that was carried out before.
type before struct{ kept bool }

func (*before) Error() string { return "carried out already" }

func (*before) Unwrap() error { return errs.New(errs.Precondition, "carried out already") }

// Into gives the answer of then.
func (b *before) Into(m proto.Message) bool {
	out, ok := m.(*registryv1.SetLabelResponse)
	if ok && b.kept {
		out.From = "then"
	}
	return ok && b.kept
}

func TestCallsThatWriteAreBegun(t *testing.T) {
	calls := &remembered{}
	shown := &revisions{}
	shown.at.Store(7)
	d := open(t, Limits{}, func(c *Config) {
		c.Calls, c.Revisions, c.Replica = calls, shown, "replica-1"
		c.Newest = func(context.Context) (int64, error) { return 9, nil }
	})
	served := 0
	d.label = func(ctx context.Context) error {
		served++
		shown.at.Add(1)
		switch ctx.Value(begunKey{}) {
		case "raced": // another try of the same call was first
			return &before{kept: true}
		case "overtaken": // the same, but it was seen by what it had changed
			return errs.New(errs.Conflict, "the label moved")
		case "stale":
			return errs.New(errs.Conflict, "the label moved")
		}
		return nil
	}
	for name, options := range transports() {
		t.Run(name, func(t *testing.T) {
			prompts := registryv1connect.NewPromptServiceClient(client(t), d.url, options...)
			ask := func(key string) (*connect.Response[registryv1.SetLabelResponse], error) {
				req := request(ada, &registryv1.SetLabelRequest{Prompt: "bot"})
				if key != "" {
					req.Header().Set("Idempotency-Key", key)
				}
				return prompts.SetLabel(t.Context(), req)
			}
			for _, tt := range []struct {
				key, from string
				served    int
				code      connect.Code
			}{
				{"", "", 1, 0},
				{"fresh", "", 1, 0},
				{"done", "then", 0, 0},
				{"raced", "then", 1, 0},
				{"overtaken", "then", 1, 0},
				{"stale", "", 1, connect.CodeAborted},
				{"forgotten", "", 0, connect.CodeFailedPrecondition},
				{"bad", "", 0, connect.CodeInvalidArgument},
			} {
				calls.begun, served = nil, 0
				resp, err := ask(tt.key)
				if tt.code != 0 {
					if connect.CodeOf(err) != tt.code {
						t.Errorf("key %q: error %v, want %s", tt.key, err, tt.code)
					}
				} else if err != nil || resp.Msg.GetFrom() != tt.from {
					t.Errorf("key %q: answer %v, error %v", tt.key, resp, err)
				} else if got := resp.Header(); got.Get("Agentry-Replica") != "replica-1" || got.Get("Agentry-Store-Revision") != strconv.FormatInt(shown.at.Load(), 10) {
					t.Errorf("key %q: headers %v", tt.key, got) // the revision is that of after the write
				}
				if served != tt.served {
					t.Errorf("key %q: served %d times", tt.key, served)
				}
				if want := "[user:ada " + tt.key + " /agentry.registry.v1.PromptService/SetLabel bot]"; fmt.Sprint(calls.begun) != want {
					t.Errorf("begun %v, want %s", calls.begun, want)
				}
			}
		})
	}
}

// revisions shows what the test says.
type revisions struct{ at, wanted atomic.Int64 }

// Revision is what is shown.
func (r *revisions) Revision() int64 { return r.at.Load() }

// WaitFor never waits.
func (r *revisions) WaitFor(_ context.Context, revision int64) error {
	r.wanted.Store(revision)
	if revision > 100 {
		return errs.New(errs.Timeout, "at %d", r.at.Load())
	}
	r.at.Store(max(r.at.Load(), revision))
	return nil
}

func TestReadsShowWhatTheyAskFor(t *testing.T) {
	shown := &revisions{}
	newest := func() (int64, error) { return 9, nil }
	d := open(t, Limits{}, func(c *Config) {
		c.Revisions = shown
		c.Newest = func(context.Context) (int64, error) { return newest() }
	})
	status := d.status(t)
	for name, tt := range map[string]struct {
		consistency, least string
		newest             func() (int64, error)
		want               int64 // shown; 0: an error
		code               connect.Code
	}{
		"nothing asked":         {want: 5},
		"linearizable":          {consistency: "linearizable", want: 9},
		"a revision":            {least: "7", want: 7},
		"both, less":            {consistency: "linearizable", least: "7", want: 9},
		"both, more":            {consistency: "linearizable", least: "12", want: 12},
		"already shown":         {least: "2", want: 5},
		"no quorum":             {consistency: "linearizable", newest: func() (int64, error) { return 0, errs.New(errs.Timeout, "no leader") }, code: connect.CodeUnavailable},
		"a revision far away":   {least: "101", code: connect.CodeUnavailable},
		"no revision":           {least: "x", code: connect.CodeInvalidArgument},
		"a negative one":        {least: "-1", code: connect.CodeInvalidArgument},
		"no kind of consistent": {consistency: "eventual", code: connect.CodeInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			shown.at.Store(5)
			newest = func() (int64, error) { return 9, nil }
			if tt.newest != nil {
				newest = tt.newest
			}
			set := func(h http.Header) {
				if tt.consistency != "" {
					h.Set("Agentry-Consistency", tt.consistency)
				}
				if tt.least != "" {
					h.Set("Agentry-Min-Revision", tt.least)
				}
			}
			req := request(ada, &releasev1.GetStatusRequest{Agent: "x"})
			set(req.Header())
			resp, err := status.GetStatus(t.Context(), req)
			watch := request(ada, &releasev1.WatchStatusRequest{})
			set(watch.Header())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, werr := status.WatchStatus(ctx, watch)
			if werr == nil {
				if !stream.Receive() {
					werr = stream.Err()
				}
			}
			if tt.code != 0 {
				if connect.CodeOf(err) != tt.code || connect.CodeOf(werr) != tt.code {
					t.Errorf("errors %v and %v, want %s", err, werr, tt.code)
				}
				return
			}
			if err != nil || werr != nil {
				t.Fatalf("errors %v and %v", err, werr)
			}
			want := strconv.FormatInt(tt.want, 10)
			if got := resp.Header().Get("Agentry-Store-Revision"); got != want {
				t.Errorf("revision %s, want %s", got, want)
			}
			if got := stream.ResponseHeader().Get("Agentry-Store-Revision"); got != want {
				t.Errorf("revision %s of the stream, want %s", got, want)
			}
		})
	}
	if _, err := New(Config{Logger: slog.New(slog.DiscardHandler), Auth: d.people, Revisions: shown}); !errs.Is(err, errs.Invalid) {
		t.Errorf("revisions without the newest: %v", err)
	}
}
