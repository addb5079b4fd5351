package register

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/test/chaos/world"
)

// Bounds of one operation.
const (
	writeDeadline = 15 * time.Second // over all tries of one write
	tryDeadline   = 6 * time.Second
	readDeadline  = 4 * time.Second
)

// client is one caller: it does one thing after another, at any replica.
type client struct {
	id    int
	r     *rand.Rand
	suite *Suite
	next  int
	doors []*world.Door // its own connections
}

// run works until ctx ends. An operation that began is ended, by its own deadline.
func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := time.Duration((0.5 + c.r.Float64()) * float64(c.suite.cfg.Think))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		reg := c.suite.registers[c.r.IntN(len(c.suite.registers))]
		reg.using.RLock()
		if c.r.Float64() < c.suite.cfg.Reads {
			c.read(context.WithoutCancel(ctx), reg)
		} else {
			c.cas(context.WithoutCancel(ctx), reg)
		}
		reg.using.RUnlock()
	}
}

func (c *client) read(ctx context.Context, reg *register) {
	at := c.r.IntN(len(c.doors))
	op := Op{Key: reg.target.Name(), Client: c.id, Kind: Read, Call: c.suite.now()}
	ctx, cancel := context.WithTimeout(world.Linearizable(ctx), readDeadline)
	defer cancel()
	var s State
	var err error
	for op.Tries < len(c.doors) && ctx.Err() == nil { // one that is gone says so at once; one that stands still takes all the time
		d := c.doors[(at+op.Tries)%len(c.doors)]
		op.Tries++
		op.Node = d.Node.Name
		if s, err = reg.target.Read(ctx, d); err == nil {
			break
		}
		c.suite.failed(err)
	}
	op.Return = c.suite.now()
	if err != nil {
		op.Outcome, op.Error = Unknown, err.Error()
	} else {
		op.Outcome, op.Version, op.Value = OK, s.Version, s.Value
		reg.saw(s.Version)
	}
	c.suite.done(reg, op)
}

// cas swaps what it takes the register to be at, as agentctl does it: with one idempotency key over all tries, at another replica each
// time that one isn't to be had.
func (c *client) cas(ctx context.Context, reg *register) {
	c.next++
	value := fmt.Sprintf("c%d-%d", c.id, c.next)
	op := Op{Key: reg.target.Name(), Client: c.id, Kind: CAS, Expect: reg.seen(), Call: c.suite.now()}
	if c.r.IntN(8) == 0 {
		op.Expect-- // which must be refused
	}
	if reg.target.Shows() {
		op.Write = value
	}
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	ctx = world.Once(ctx, fmt.Sprintf("%s-%s-%d", c.suite.cfg.Run, value, c.suite.cfg.Seed))
	at := c.r.IntN(len(c.doors))
	for {
		d := c.doors[at%len(c.doors)]
		op.Tries++
		op.Node = d.Node.Name
		one, stop := context.WithTimeout(ctx, tryDeadline)
		version, revision, err := reg.target.CAS(one, d, op.Expect, value)
		stop()
		if again := c.judge(&op, reg, version, revision, err); !again || ctx.Err() != nil {
			break
		}
		at++
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(100+c.r.IntN(200)) * time.Millisecond):
		}
	}
	op.Return = c.suite.now()
	c.suite.done(reg, op)
}

// judge reads the answer to one try, and tells whether to try again.
func (c *client) judge(op *Op, reg *register, version, revision int64, err error) (again bool) {
	if err == nil {
		op.Outcome, op.Version, op.Revision, op.Error = OK, version, revision, ""
		if version != 0 {
			reg.saw(version)
		}
		return false
	}
	op.Outcome, op.Error = Unknown, err.Error()
	c.suite.failed(err)
	switch connect.CodeOf(err) {
	case connect.CodeAborted:
		// That others won every race says nothing of the version that was checked.
		if !strings.Contains(err.Error(), "others keep writing") && (op.Tries == 1 || c.suite.cfg.KeysCount) {
			op.Outcome, op.Error = Stale, ""
		}
		return false
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeUnknown, connect.CodeInternal, connect.CodeResourceExhausted:
		return true
	default:
		c.suite.cfg.Findings.Violate("API", "%s of %s at %s: %v", op.Kind, op.Key, op.Node, err)
		return false
	}
}
