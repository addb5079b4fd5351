package tokenreview_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/identity/tokenreview"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dated is a token that says when it was made: {"iat":1700000000}.
const dated = "e30.eyJpYXQiOjE3MDAwMDAwMDB9.c2ln"

// fakeAPIServer answers TokenReviews the way that Kubernetes documents it. It is no Kubernetes: it knows a few tokens by heart.
type fakeAPIServer struct {
	*httptest.Server

	t *testing.T
	// answer replaces what is known of a token.
	answer http.HandlerFunc
}

func newFakeAPIServer(t *testing.T) *fakeAPIServer {
	t.Helper()
	f := &fakeAPIServer{t: t}
	f.Server = httptest.NewTLSServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeAPIServer) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
}

// ServeHTTP is POST /apis/authentication.k8s.io/v1/tokenreviews.
func (f *fakeAPIServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.answer != nil {
		f.answer(w, r)
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Header.Get("Authorization") != "Bearer reviewer" {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	var in struct {
		APIVersion string
		Kind       string
		Spec       struct {
			Token     string
			Audiences []string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Kind != "TokenReview" || in.APIVersion != "authentication.k8s.io/v1" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	if !cmp.Equal(in.Spec.Audiences, []string{"agentry"}) {
		f.t.Errorf("asked for audiences %v", in.Spec.Audiences)
	}
	status := map[string]any{"authenticated": false, "error": "token not found"}
	user := func(name string, audiences ...string) map[string]any {
		return map[string]any{"authenticated": true, "audiences": audiences, "user": map[string]any{"username": name}}
	}
	switch in.Spec.Token {
	case "helper", dated:
		status = user("system:serviceaccount:team-a:helper", "agentry")
	case "no audience": // as an API server does that knows none
		status = user("system:serviceaccount:team-a:helper")
	case "for others":
		status = user("system:serviceaccount:team-a:helper", "vault")
	case "person":
		status = user("ada@example.org", "agentry")
	case "odd":
		status = user("system:serviceaccount:team-a:helper:more", "agentry")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	if err := json.NewEncoder(w).Encode(map[string]any{"apiVersion": in.APIVersion, "kind": in.Kind, "status": status}); err != nil {
		f.t.Error(err)
	}
}

func (f *fakeAPIServer) reviewer(mapping string) *tokenreview.Reviewer {
	f.t.Helper()
	r, err := tokenreview.New(tokenreview.Config{
		URL: f.URL, CA: f.ca(), Audience: "agentry", Map: []byte(mapping),
		Token: func() (secret.Value, error) { return secret.NewValue("reviewer\n"), nil },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(r.Close)
	return r
}

func TestAttest(t *testing.T) {
	f := newFakeAPIServer(t)
	for name, tc := range map[string]struct {
		token, mapping string
		want           identity.Attested
		kind           errs.Kind // Internal: none
	}{
		"by name":          {token: "helper", want: identity.Attested{Namespace: "team-a", Agent: "helper", Proof: identity.ByKubernetes}},
		"dated":            {token: dated, want: identity.Attested{Namespace: "team-a", Agent: "helper", Proof: identity.ByKubernetes, Made: time.Unix(1700000000, 0)}},
		"by the map":       {token: "helper", mapping: `{"team-a/helper": "prod/bot"}`, want: identity.Attested{Namespace: "prod", Agent: "bot", Proof: identity.ByKubernetes}},
		"not in the map":   {token: "helper", mapping: `{"team-b/helper": "prod/bot"}`, kind: errs.Unauthenticated},
		"unknown":          {token: "nothing", kind: errs.Unauthenticated},
		"without audience": {token: "no audience", kind: errs.Unauthenticated},
		"for others":       {token: "for others", kind: errs.Unauthenticated},
		"a person":         {token: "person", kind: errs.Unauthenticated},
		"an odd name":      {token: "odd", kind: errs.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := f.reviewer(tc.mapping).Attest(t.Context(), secret.NewValue(tc.token))
			if tc.kind != errs.Internal {
				if !errs.Is(err, tc.kind) {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAPIServerFaults: what says nothing about the token is never taken for an answer about it.
func TestAPIServerFaults(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"forbidden": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"garbage":   func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"another kind": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"kind": "Status", "status": {"authenticated": true}}`))
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://example.org/", http.StatusFound)
		},
		"hangs": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(time.Minute):
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeAPIServer(t)
			f.answer = func(w http.ResponseWriter, r *http.Request) {
				_, _ = http.MaxBytesReader(w, r.Body, 1<<20).Read(make([]byte, 1<<16)) // so that a client that goes is noticed
				answer(w, r)
			}
			if _, err := f.reviewer("").Attest(t.Context(), secret.NewValue("helper")); !errs.Is(err, errs.Unavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnotherServersCertificate(t *testing.T) {
	f := newFakeAPIServer(t)
	r, err := tokenreview.New(tokenreview.Config{URL: f.URL, Audience: "agentry"}) // the system's roots
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	if _, err := r.Attest(t.Context(), secret.NewValue("helper")); !errs.Is(err, errs.Unavailable) {
		t.Errorf("got %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]tokenreview.Config{
		"plain http":  {URL: "http://kube", Audience: "agentry"},
		"no URL":      {Audience: "agentry"},
		"no audience": {URL: "https://kube"},
		"bad CA":      {URL: "https://kube", Audience: "agentry", CA: []byte("x")},
		"bad map":     {URL: "https://kube", Audience: "agentry", Map: []byte(`["x"]`)},
		"bad name":    {URL: "https://kube", Audience: "agentry", Map: []byte(`{"a": "b/c"}`)},
	} {
		if _, err := tokenreview.New(cfg); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
