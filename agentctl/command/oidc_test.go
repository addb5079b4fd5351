package command

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/oauth2"
)

// TestCallback holds that one answer counts: the first that carries the state.
func TestCallback(t *testing.T) {
	t.Parallel()
	type got struct {
		Status   int
		Code     string
		Err      string
		Answered bool
	}
	cases := map[string]struct {
		method, query string
		want          got
	}{
		"the answer":        {"GET", "?state=s&code=c", got{Status: 200, Code: "c", Answered: true}},
		"refused":           {"GET", "?state=s&error=access_denied&error_description=not+today", got{Status: 200, Err: "the provider says access_denied: not today", Answered: true}},
		"no code":           {"GET", "?state=s", got{Status: 200, Err: "the provider answered no code", Answered: true}},
		"a guessed state":   {"GET", "?state=x&code=c", got{Status: 400}},
		"no state":          {"GET", "?code=c", got{Status: 400}},
		"a guessed refusal": {"GET", "?state=x&error=access_denied", got{Status: 400}},
		"a form":            {"POST", "?state=s&code=c", got{Status: 405}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := make(chan answer, 1)
			h := callback("s", answers)
			var g got
			for range 2 { // a page that is loaded twice waits for nobody
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, httptest.NewRequest(tc.method, "/callback"+tc.query, http.NoBody))
				g.Status = rec.Code
			}
			select {
			case a := <-answers:
				g.Code, g.Answered = a.code, true
				if a.err != nil {
					g.Err = a.err.Error()
				}
			default:
			}
			if diff := cmp.Diff(tc.want, g); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A login that is broken off leaves no port open and no goroutine behind.
//
//nolint:paralleltest // it counts goroutines
func TestBrokenOffLogin(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithCancel(t.Context())
	said := &saying{on: "Open this address", then: cancel}
	p := &provider{config: oauth2.Config{ClientID: "agentctl", Endpoint: oauth2.Endpoint{AuthURL: "http://127.0.0.1:1/auth"}}}
	_, _, err := p.byBrowser(ctx, &cli{env: Env{Stdout: io.Discard, Stderr: said, Getenv: func(string) string { return "" }}})
	if got := exitCode(err); got != exitFailure {
		t.Errorf("exit %d: %v", got, err)
	}
	if !strings.Contains(said.String(), "code_challenge_method=S256") || !strings.Contains(said.String(), "nonce=") || !strings.Contains(said.String(), "state=") {
		t.Errorf("the address: %s", said)
	}
}

// saying calls then once a text was written.
type saying struct {
	bytes.Buffer

	on   string
	then func()
}

func (s *saying) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	if strings.Contains(s.String(), s.on) {
		s.then()
	}
	return n, err
}
