package mcpdoor

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/agentry/agentry/agentd/run"
)

// progressEvery is the least time between two notifications that carry text; a tool's step is told at once.
const progressEvery = 100 * time.Millisecond

// maxProgress bounds the text of one notification, in bytes: progress is not the answer.
const maxProgress = 4 << 10

// progress tells a client what happens while a call runs, on the call's own stream, whose last event is the answer. It writes for itself:
// mcp-go drops what it hasn't sent when the answer comes. One goroutine uses it, the one in which mcp-go serves the request.
type progress struct {
	out   *bounded
	token mcp.ProgressToken
	count int
	text  []byte
	last  time.Time
}

// progress gives nil where the client asked for none or can't take it.
func (k *known) progress(ctx context.Context, meta *mcp.Meta) *progress {
	if meta == nil || meta.ProgressToken == nil || !k.accepts {
		return nil
	}
	session, ok := server.ClientSessionFromContext(ctx).(server.SessionWithStreamableHTTPConfig)
	if !ok {
		return nil
	}
	session.UpgradeToSSEWhenReceiveNotification() // the answer is an event too
	return &progress{out: k.out, token: meta.ProgressToken}
}

// delta is a Turn's emit. Text is gathered: what is left at the end comes with the result.
func (p *progress) delta(d run.Delta) error {
	if p == nil {
		return nil
	}
	if t := d.Tool; t != nil {
		if err := p.flush(); err != nil {
			return err
		}
		switch {
		case !t.Done:
			return p.send("calls " + t.Name)
		case t.IsError:
			return p.send(t.Name + " failed")
		default:
			return p.send(t.Name + " answered")
		}
	}
	if p.text = append(p.text, d.Text...); time.Since(p.last) >= progressEvery {
		return p.flush()
	}
	return nil
}

func (p *progress) flush() error {
	if len(p.text) == 0 {
		return nil
	}
	p.last = time.Now()
	text := strings.ToValidUTF8(string(p.text[:min(len(p.text), maxProgress)]), "")
	p.text = p.text[:0]
	return p.send(text)
}

// notification is notifications/progress.
type notification struct {
	Version string `json:"jsonrpc"`
	Method  string `json:"method"`
	Params  struct {
		Token    mcp.ProgressToken `json:"progressToken"`
		Progress int               `json:"progress"`
		Message  string            `json:"message"`
	} `json:"params"`
}

func (p *progress) send(message string) error {
	p.count++
	n := notification{Version: mcp.JSONRPC_VERSION, Method: "notifications/progress"}
	n.Params.Token, n.Params.Progress, n.Params.Message = p.token, p.count, message
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if !p.out.begun {
		p.out.Header().Set("Content-Type", "text/event-stream")
		p.out.Header().Set("Cache-Control", "no-cache, no-transform")
		p.out.Header().Set("X-Accel-Buffering", "no")
		p.out.WriteHeader(http.StatusOK)
	}
	if _, err := p.out.Write([]byte("event: message\ndata: " + string(b) + "\n\n")); err != nil {
		return err
	}
	return p.out.rc.Flush()
}
