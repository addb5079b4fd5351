// Package stub holds the servers around the agents in the fault suite: a scripted model server that tells what each call carried, as
// small as it can be kept for hours.
package stub

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/internal/scriptmodel"
)

// script asks for the one offered tool with the request's id, then answers with what it was given; "slow" requests stream for a second.
const script = `
rules:
  - name: slow end
    when: {user: "/slow req (\\S+)/", toolResult: true}
    reply:
      text: "done {{1}} {{system}} temperature {{temperature}} one two three four five six seven eight"
      pace: {delay: 150ms, chunk: 12}
  - name: end
    when: {user: "/req (\\S+)/", toolResult: true}
    reply: {text: "done {{1}} {{system}} temperature {{temperature}} end"}
  - name: begin
    when: {user: "/req (\\S+)/"}
    reply: {toolCalls: [{name: "*", arguments: {q: "{{1}}"}}]}
`

// Call is what one model call carried.
type Call struct {
	At          time.Time
	User        string
	System      string
	Temperature *float64
	Tools       []string
}

// Model is the scripted model server. It keeps every call until Take.
type Model struct {
	URL string // with /v1

	http *http.Server
	wg   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	calls []Call
	fail  func(http.ResponseWriter)
}

// Fail lets every call be answered by f from now on, without being noted; nil: as usual again. f is called from many goroutines.
func (m *Model) Fail(f func(http.ResponseWriter)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = f
}

// StartModel listens on a free port of host.
func StartModel(host string) (*Model, error) {
	s, err := scriptmodel.ParseScript([]byte(script))
	if err != nil {
		return nil, err
	}
	next := scriptmodel.New(s)
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0")) //nolint:noctx // Close ends it
	if err != nil {
		return nil, err
	}
	m := &Model{URL: "http://" + ln.Addr().String() + "/v1"}
	m.http = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
		if err != nil {
			return
		}
		m.mu.Lock()
		fail := m.fail
		m.mu.Unlock()
		if fail != nil {
			fail(w)
			return
		}
		m.note(body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})}
	m.wg.Go(func() { _ = m.http.Serve(ln) })
	return m, nil
}

func (m *Model) note(body []byte) {
	var q struct {
		Temperature *float64 `json:"temperature"`
		Messages    []struct {
			Role    string `json:"role"`
			Content any    `json:"content"`
		} `json:"messages"`
		Tools []struct {
			Function struct {
				Name string `json:"name"`
			} `json:"function"`
		} `json:"tools"`
	}
	if json.Unmarshal(body, &q) != nil || len(q.Messages) == 0 {
		return
	}
	c := Call{At: time.Now(), Temperature: q.Temperature}
	for _, msg := range q.Messages {
		text, _ := msg.Content.(string)
		switch msg.Role {
		case "system", "developer":
			c.System = strings.TrimSpace(c.System + "\n" + text)
		case "user":
			c.User = text
		}
	}
	for _, t := range q.Tools {
		c.Tools = append(c.Tools, t.Function.Name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, c)
}

// Take gives the calls since the last Take.
func (m *Model) Take() []Call {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.calls
	m.calls = nil
	return out
}

// Close ends it.
func (m *Model) Close() {
	_ = m.http.Close()
	m.wg.Wait()
}
