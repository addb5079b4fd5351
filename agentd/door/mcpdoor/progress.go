package mcpdoor

import (
	"context"
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

// progress tells a client what happens while a call runs. One goroutine uses it.
type progress struct {
	ctx    context.Context //nolint:containedctx // one call's
	server *server.MCPServer
	token  mcp.ProgressToken
	count  int
	text   []byte
	last   time.Time
}

// progress gives nil where the client asked for none or can't take it.
func (d *Door) progress(ctx context.Context, k *known, meta *mcp.Meta) *progress {
	if meta == nil || meta.ProgressToken == nil || !k.accepts {
		return nil
	}
	return &progress{ctx: ctx, server: server.ServerFromContext(ctx), token: meta.ProgressToken}
}

// delta is a Turn's emit. Text is gathered: what is left at the end comes with the result.
func (p *progress) delta(d run.Delta) error {
	if p == nil {
		return nil
	}
	if t := d.Tool; t != nil {
		p.flush()
		switch {
		case !t.Done:
			p.send("calls " + t.Name)
		case t.IsError:
			p.send(t.Name + " failed")
		default:
			p.send(t.Name + " answered")
		}
		return nil
	}
	if p.text = append(p.text, d.Text...); time.Since(p.last) >= progressEvery {
		p.flush()
	}
	return nil
}

func (p *progress) flush() {
	if len(p.text) == 0 {
		return
	}
	p.last = time.Now()
	p.send(strings.ToValidUTF8(string(p.text[:min(len(p.text), maxProgress)]), ""))
	p.text = p.text[:0]
}

// send puts a notification on the call's stream. Where the client reads too slowly it is dropped: progress is no promise.
func (p *progress) send(message string) {
	p.count++
	_ = p.server.SendNotificationToClient(p.ctx, "notifications/progress", map[string]any{"progressToken": p.token, "progress": p.count, "message": message})
}
