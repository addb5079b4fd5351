package gate

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

// requestIDHeader carries a call's id, in the request where the caller gives one and in every answer.
const requestIDHeader = "X-Request-Id"

var saneID = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// call is what the gate knows of a call before its body is read.
type call struct {
	rule   *rule
	id     string
	client string // address
	bearer string
	who    access.Principal // zero: a public method
	// changed is closed at the first change of access after the call was admitted; nil: there is none to hear of.
	changed <-chan struct{}
	// header is the answer's.
	header http.Header
	// arrived ends the time that the body may take.
	arrived func()
	// more gives the next message of an upload the time that a body may take.
	more func()
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// RequestID gives the id of a call that came through a Gate; "" for any other.
func RequestID(ctx context.Context) string {
	if c := callOf(ctx); c != nil {
		return c.id
	}
	return ""
}

// enter decides all that needs no body. A path that is no method goes on: the handler says that there is none.
func (g *Gate) enter(w http.ResponseWriter, r *http.Request, next http.Handler) {
	rl := g.rules[r.URL.Path]
	if rl == nil {
		next.ServeHTTP(w, r)
		return
	}
	c := &call{rule: rl, id: requestID(r), client: clientOf(r), bearer: rpc.BearerOf(r.Header.Get("Authorization")), header: w.Header()}
	w.Header().Set(requestIDHeader, c.id)
	r.Header.Del("Authorization") // nobody behind the gate needs it
	control := http.NewResponseController(w)
	// Without support (a test's recorder) the server's own bounds are all there is.
	_ = control.SetReadDeadline(time.Now().Add(g.limits.Body))
	done, err := g.admit(r.Context(), c)
	if err != nil {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // else the server reads the body before it answers
		}
		g.answer(w, r, c, err)
		return
	}
	defer done()
	if g.replica != "" {
		w.Header().Set(replicaHeader, g.replica)
	}
	g.tell(c)
	c.arrived = func() { _ = control.SetReadDeadline(time.Time{}) }
	c.more = func() { _ = control.SetReadDeadline(time.Now().Add(g.limits.Body)) }
	ctx := context.WithValue(r.Context(), callKey{}, c)
	if c.who.Name != "" {
		ctx = access.With(ctx, c.who)
	}
	next.ServeHTTP(w, r.WithContext(ctx))
}

// admit authenticates a call and holds its caller to the limits. done must be called when the call has ended.
func (g *Gate) admit(ctx context.Context, c *call) (done func(), err error) {
	done = func() {}
	switch {
	case c.rule.on == accessv1.On_ON_PUBLIC && c.rule.mutates:
		return done, g.limited(g.logins, c.client)
	case c.rule.on == accessv1.On_ON_PUBLIC:
		return done, g.limited(g.clients, c.client)
	}
	c.changed = g.changed() // before anything is asked: a change in between isn't missed
	c.who, err = g.auth.Authenticate(ctx, c.bearer)
	if err != nil {
		return nil, g.unknown(c, err)
	}
	if err := g.limited(g.callers, c.who.Name); err != nil {
		return nil, err
	}
	if !c.rule.streams {
		return done, nil
	}
	if !g.streams.take(c.who.Name) {
		return nil, errs.New(errs.Exhausted, "%s has %d streams open, which is the most: end one", c.who.Name, g.limits.Streams)
	}
	return func() { g.streams.give(c.who.Name) }, nil
}

// unknown is the answer to a failed authentication. They are counted by address: too many are told to wait, and aren't told to the
// audit log any more.
func (g *Gate) unknown(c *call, err error) error {
	if !errs.Is(err, errs.Unauthenticated) {
		return err
	}
	if limit := g.limited(g.clients, c.client); limit != nil {
		return limit
	}
	g.audit.Record(audit.Event{
		Type: audit.Unauthenticated, Outcome: connect.CodeUnauthenticated.String(), Message: g.redact.Redact(err.Error()), Time: g.now(),
		Call: audit.Call{Actor: c.client, Method: c.rule.method, Permission: c.rule.permission, RequestID: c.id},
	})
	return err
}

// limited takes a token; none is errs.Exhausted with the time to wait.
func (g *Gate) limited(b *buckets, key string) error {
	wait, ok := b.take(key, g.now())
	if ok {
		return nil
	}
	return &waitError{wait: wait}
}

// waitError is the answer to who asks too often.
type waitError struct{ wait time.Duration }

// Error says when to try again.
func (e *waitError) Error() string {
	return "too many calls: try again in " + strconv.Itoa(e.seconds()) + " s"
}

func (e *waitError) seconds() int { return int(math.Ceil(e.wait.Seconds())) }

// wire gives an error as connect's, with the call's id in its header.
func (g *Gate) wire(ctx context.Context, c *call, err error) *connect.Error {
	var out *connect.Error
	wait, limited := err.(*waitError) //nolint:errorlint // made here, never wrapped
	switch {
	case limited:
		out = connect.NewError(connect.CodeResourceExhausted, wait)
		out.Meta().Set("Retry-After", strconv.Itoa(wait.seconds()))
		if d, err := connect.NewErrorDetail(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait.wait)}); err == nil {
			out.AddDetail(d)
		}
	case errs.Is(err, errs.Internal):
		g.log.LogAttrs(ctx, slog.LevelError, "gate broke", slog.String("method", c.rule.method), slog.String("request_id", c.id), slog.Any("error", err))
		out = connect.NewError(connect.CodeInternal, errInternal)
	default:
		out = connect.NewError(connect.Code(errs.Code(err)), err)
	}
	return out
}

// errInternal is all that a caller hears of a fault of ours.
var errInternal = errs.New(errs.Internal, "internal error; see the server's log")

// answer refuses a call whose body wasn't read, in the caller's protocol.
func (g *Gate) answer(w http.ResponseWriter, r *http.Request, c *call, err error) {
	if werr := g.refuse.Write(w, r, g.wire(r.Context(), c, err)); werr != nil {
		g.log.LogAttrs(r.Context(), slog.LevelDebug, "refusal wasn't sent", slog.String("request_id", c.id), slog.Any("error", werr))
	}
}

// requestID takes the caller's id where it can't do harm in logs, else makes one.
func requestID(r *http.Request) string {
	if id := r.Header.Get(requestIDHeader); saneID.MatchString(id) {
		return id
	}
	var b [12]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// clientOf gives the address by which a caller that isn't known is counted: of IPv6, the network of 64 bits that one site has.
func clientOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() && !ip.IsLoopback() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}
