package gate

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/agentry/agentry/internal/errs"
)

// What a caller says of the state that a read must show, and what every answer says of the state that it shows.
const (
	consistencyHeader = "Agentry-Consistency" // "linearizable": at least what the store holds when the call comes
	minRevisionHeader = "Agentry-Min-Revision"
	revisionHeader    = "Agentry-Store-Revision" // an answer shows at least this revision
	replicaHeader     = "Agentry-Replica"

	linearizable = "linearizable"
	// revisionWait bounds the wait for a revision.
	revisionWait = 5 * time.Second
)

// Revisions tells which store revision is shown. It must be safe for concurrent use.
type Revisions interface {
	Revision() int64
	// WaitFor waits until at least a revision is shown.
	WaitFor(ctx context.Context, revision int64) error
}

// tell puts into a call's answer which revision is shown now.
func (g *Gate) tell(c *call) {
	if g.revisions != nil && c.header != nil {
		c.header.Set(revisionHeader, strconv.FormatInt(g.revisions.Revision(), 10))
	}
}

// consistent waits until what a call is to read is shown. What isn't in time is errs.Unavailable: another replica, or a call that asks
// for less, may have an answer.
func (g *Gate) consistent(ctx context.Context, c *call, asked http.Header) error {
	defer g.tell(c)
	wants, least := asked.Get(consistencyHeader), asked.Get(minRevisionHeader)
	if g.revisions == nil || wants == "" && least == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, revisionWait)
	defer cancel()
	revision := int64(0)
	if least != "" {
		n, err := strconv.ParseInt(least, 10, 64)
		if err != nil || n < 0 {
			return errs.New(errs.Invalid, "%s: %q is no revision", minRevisionHeader, least)
		}
		revision = n
	}
	switch wants {
	case "":
	case linearizable:
		newest, err := g.newest(ctx)
		if err != nil {
			return errs.New(errs.Unavailable, "the store can't say what it holds now; without %s this replica answers by what it knows, which is revision %d: %w", consistencyHeader, g.revisions.Revision(), err)
		}
		revision = max(revision, newest)
	default:
		return errs.New(errs.Invalid, "%s: %q; only %q can be asked for", consistencyHeader, wants, linearizable)
	}
	if err := g.revisions.WaitFor(ctx, revision); err != nil {
		return errs.New(errs.Unavailable, "this replica doesn't show revision %d yet: ask again, or another replica: %w", revision, err)
	}
	return nil
}
