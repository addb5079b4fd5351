package openaimodel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/internal/scriptmodel"
)

// The faults of a model server, each bounded and typed, streaming and not.
func TestFaults(t *testing.T) {
	t.Parallel()
	long := "one two three four five six seven eight"
	for name, tc := range map[string]struct {
		fault scriptmodel.Fault
		codes [2]string // streaming, not streaming
	}{
		"half open":                  {fault: scriptmodel.Fault{HalfOpen: true}, codes: [2]string{"timeout", "timeout"}},
		"garbage":                    {fault: scriptmodel.Fault{GarbageSSE: true}, codes: [2]string{"unreachable", "invalid"}},
		"cut inside an event":        {fault: scriptmodel.Fault{BrokenSSE: true}, codes: [2]string{"unreachable", "invalid"}},
		"another body":               {fault: scriptmodel.Fault{WrongJSON: true}, codes: [2]string{"invalid", "invalid"}},
		"reset":                      {fault: scriptmodel.Fault{Reset: true}, codes: [2]string{"unreachable", "unreachable"}},
		"a byte now and then":        {fault: scriptmodel.Fault{Drip: 20 * time.Millisecond}, codes: [2]string{"timeout", "timeout"}},
		"10 MB of tool arguments":    {fault: scriptmodel.Fault{HugeArguments: 10 << 20}, codes: [2]string{"invalid", "invalid"}},
		"tool arguments that go":     {fault: scriptmodel.Fault{HugeArguments: 1 << 20}},
		"nothing before the timeout": {fault: scriptmodel.Fault{Slow: time.Hour}, codes: [2]string{"timeout", "timeout"}},
	} {
		for _, api := range []openaimodel.API{openaimodel.ChatCompletions, openaimodel.Responses} {
			t.Run(name+", "+string(api), func(t *testing.T) {
				t.Parallel()
				reply := &scriptmodel.Reply{Text: long, Pace: scriptmodel.Pace{Chunk: 4}}
				if tc.fault.HugeArguments > 0 {
					reply = nil
				}
				scripted := scriptmodel.New(scriptmodel.Script{Rules: []scriptmodel.Rule{{Reply: reply, Fault: &tc.fault}}})
				srv := httptest.NewServer(scripted)
				defer srv.Close()
				defer scripted.Close()
				patience := 10 * time.Minute // longer than any machine takes
				if tc.codes[0] == "timeout" {
					patience = 500 * time.Millisecond
				}
				m, err := openaimodel.New(openaimodel.Config{
					Model: "m", BaseURL: srv.URL + "/v1", API: api, Transports: openaimodel.NewTransports(here(t)), Attempts: 1, Timeout: patience, IdleTimeout: patience,
				})
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				for i, stream := range []bool{true, false} {
					got, err := collect(t, m, model.Request{Stream: stream})
					var known *model.Error
					switch {
					case tc.codes[i] == "" && (err != nil || len(got.Calls) != 1 || len(got.Calls[0].Arguments) != tc.fault.HugeArguments):
						t.Errorf("stream %v: %v, %d calls", stream, err, len(got.Calls))
					case tc.codes[i] != "" && (!errors.As(err, &known) || known.Code != tc.codes[i]):
						t.Errorf("stream %v: err = %v, want %s", stream, err, tc.codes[i])
					}
				}
			})
		}
	}
}

// What an endpoint may send without an end is capped.
func TestSizes(t *testing.T) {
	t.Parallel()
	forEver := func(head, piece string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, err := io.WriteString(w, head)
			for err == nil {
				_, err = io.WriteString(w, piece)
			}
		}
	}
	call := func(i int) string {
		return fmt.Sprintf(`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":%d,"id":"c%d","function":{"name":"f","arguments":"{}"}}]}}]}`, i, i)
	}
	var many []string
	for i := range 129 {
		many = append(many, call(i))
	}
	for name, h := range map[string]http.HandlerFunc{
		"an event without an end":  forEver("data: ", strings.Repeat("x", 1<<16)),
		"text without an end":      forEver("", "data: "+text(strings.Repeat("x", 1<<16))+"\n\n"),
		"arguments without an end": forEver("", `data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"`+strings.Repeat("}", 1024)+`"}}]}}]}`+"\n\n"),
		"too many calls":           sse(many...),
		"an answer without an end": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			endless(w, r, `{"a":"`)
		},
		"an error body without an end": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			endless(w, r, `{"error":"`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, serve(t, h), func(c *openaimodel.Config) { c.Timeout, c.IdleTimeout = 10*time.Minute, 10*time.Minute })
			_, err := collect(t, m, model.Request{Stream: true})
			var known *model.Error
			if !errors.As(err, &known) || known.Code != "invalid" || len(known.Message) > 1000 {
				t.Errorf("err = %.2000v", err)
			}
		})
	}
}

func endless(w io.Writer, r *http.Request, head string) {
	_, err := io.WriteString(w, head)
	for err == nil && r.Context().Err() == nil {
		_, err = io.WriteString(w, strings.Repeat("x", 1<<16))
	}
}

// A caller that leaves ends the call upstream, whatever state it's in.
func TestLeavingEndsTheCallUpstream(t *testing.T) {
	t.Parallel()
	scripted := scriptmodel.New(scriptmodel.Script{Rules: []scriptmodel.Rule{
		{Name: "silent", When: scriptmodel.When{User: scriptmodel.Contains("silent")}, Fault: &scriptmodel.Fault{Slow: time.Hour}},
		{Name: "talks", Reply: &scriptmodel.Reply{Text: strings.Repeat("word ", 100), Pace: scriptmodel.Pace{Delay: time.Hour}}},
	}})
	srv := httptest.NewServer(scripted)
	defer srv.Close()
	defer scripted.Close()
	for i, user := range []string{"silent", "talks", "silent", "talks"} {
		api := openaimodel.ChatCompletions
		if i > 1 {
			api = openaimodel.Responses
		}
		m, err := openaimodel.New(openaimodel.Config{Model: "m", BaseURL: srv.URL + "/v1", API: api, Transports: openaimodel.NewTransports(here(t))})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			var last error
			for _, err := range m.Generate(ctx, model.Request{Stream: true, Messages: []model.Message{{Role: model.User, Text: user}}}) {
				last = err
			}
			done <- last
		}()
		await(t, func() bool { return len(scripted.Requests()) == i+1 })
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: err = %v", user, err)
		}
		await(t, func() bool { s := scripted.Requests()[i]; return s.Ended != nil && s.Aborted })
	}
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.After(20 * time.Second); !ok(); {
		select {
		case <-deadline:
			t.Fatal("it did not come to that")
		case <-time.After(time.Millisecond):
		}
	}
}
