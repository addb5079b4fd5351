package command

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
)

const (
	// unaryDeadline bounds a call that answers once; where there are several replicas, one try of it: readDeadline, or writeDeadline,
	// which leaves a replica the time in which it repeats a write itself while the store chooses a leader.
	unaryDeadline = 30 * time.Second
	readDeadline  = 8 * time.Second
	writeDeadline = 18 * time.Second

	idempotencyHeader = "Idempotency-Key"
	consistencyHeader = "Agentry-Consistency"
	linearizable      = "linearizable"
	revisionHeader    = "Agentry-Store-Revision"
	replicaHeader     = "Agentry-Replica"
)

// caller adds the token and a deadline to every call, tries one replica after the other, and names them where none can be reached.
type caller struct {
	token   secret.Value
	servers *servers
	by      http.RoundTripper
	stderr  io.Writer

	warning sync.Once
}

var _ connect.Interceptor = (*caller)(nil)

// WrapUnary implements connect.Interceptor. A call that changes something has one key over all its tries, so it is carried out once. One
// that reads asks for what the store holds now; where no replica can tell, for what one knows, with a warning.
func (i *caller) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if !i.token.IsZero() {
			req.Header().Set("Authorization", "Bearer "+i.token.Reveal())
		}
		rule, _ := rpc.Rule(req.Spec().Procedure)
		if rule.GetMutates() {
			req.Header().Set(idempotencyHeader, rand.Text())
			return i.anywhere(ctx, req, next, writeDeadline)
		}
		if !readsStore(req.Spec().Procedure) {
			return i.anywhere(ctx, req, next, readDeadline)
		}
		req.Header().Set(consistencyHeader, linearizable)
		resp, err := i.anywhere(ctx, req, next, readDeadline)
		if err == nil || !connect.IsWireError(err) || connect.CodeOf(err) != connect.CodeUnavailable || ctx.Err() != nil {
			return resp, err
		}
		req.Header().Del(consistencyHeader)
		known, again := i.anywhere(ctx, req, next, readDeadline)
		if again != nil {
			return resp, err
		}
		i.warn(err, known.Header())
		return known, nil
	}
}

// readsStore reports whether a method answers from the store, so that how old the answer may be is a question.
func readsStore(procedure string) bool {
	for _, service := range []string{"/agentry.spec.", "/agentry.release.", "/agentry.registry."} {
		if strings.HasPrefix(procedure, service) {
			return !strings.HasSuffix(procedure, "/Info")
		}
	}
	return false
}

func (i *caller) warn(why error, header http.Header) {
	i.warning.Do(func() {
		var e *connect.Error
		text := why.Error()
		if errors.As(why, &e) {
			text = e.Message()
		}
		_, _ = fmt.Fprintf(i.stderr, "warning: what follows may be old: it is what replica %s knows at store revision %s, and nobody can say what the store holds now: %s\n",
			dash(header.Get(replicaHeader)), dash(header.Get(revisionHeader)), lines(text))
	})
}

// anywhere asks the replica that is talked to, and the others in turn where it can't be reached or can't answer now.
func (i *caller) anywhere(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc, within time.Duration) (connect.AnyResponse, error) {
	i.servers.pick(ctx, i.by)
	if !i.servers.several() {
		within = unaryDeadline
	}
	var said error // what a replica said itself tells more than that others can't be reached
	var by string
	for n := 1; ; n++ {
		server := i.servers.current()
		var err error
		if said == nil || !i.servers.isDown(server) {
			var resp connect.AnyResponse
			if resp, err = i.try(aim(ctx, server), req, next, within); err == nil {
				return resp, nil
			}
			if !elsewhere(ctx, err) {
				return resp, i.explain(err)
			}
			if connect.IsWireError(err) {
				said, by = err, server
			}
		}
		switch {
		case n < len(i.servers.urls):
			i.servers.leave(server)
		case said != nil:
			i.servers.use(by)
			return nil, said
		default:
			return nil, i.explain(err)
		}
	}
}

// try asks once.
func (i *caller) try(ctx context.Context, req connect.AnyRequest, next connect.UnaryFunc, within time.Duration) (connect.AnyResponse, error) {
	// The command's own deadline may be that of a model's answer: too long to wait for a control plane that hangs.
	own, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	resp, err := next(own, req)
	if err != nil && own.Err() != nil && ctx.Err() == nil {
		return resp, failf(exitTimeout, "is it alive? see its log", "the control plane at %s did not answer within %s", i.servers, within)
	}
	return resp, err
}

// elsewhere reports whether another replica may do better: this one can't be reached, hung, or says that it can't now.
func elsewhere(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (!connect.IsWireError(err) || connect.CodeOf(err) == connect.CodeUnavailable)
}

// WrapStreamingClient implements connect.Interceptor.
func (i *caller) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		i.servers.pick(ctx, i.by)
		conn := next(aim(ctx, i.servers.current()), spec)
		if !i.token.IsZero() {
			conn.RequestHeader().Set("Authorization", "Bearer "+i.token.Reveal())
		}
		return conn
	}
}

// WrapStreamingHandler implements connect.Interceptor; agentctl serves nothing by it.
func (*caller) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// explain says where nothing answered and how to change that.
func (i *caller) explain(err error) error {
	cause := err
	op := (*net.OpError)(nil)
	untrusted := (*tls.CertificateVerificationError)(nil)
	plain := tls.RecordHeaderError{}
	told := (*failure)(nil)
	switch {
	case err == nil || connect.IsWireError(err) || errors.As(err, &told):
		return err
	case errors.As(err, &untrusted):
		return failf(exitUnreachable, "name the file with its authority: --ca-file or AGENTCTL_CA_FILE", "the certificate of %s is not trusted: %w", i.servers, untrusted.Err)
	case errors.As(err, &plain), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"): // net/http keeps the type to itself
		return failf(exitUnreachable, "write it as http://", "what answers at %s speaks no TLS", i.servers)
	case strings.HasPrefix(i.servers.current(), "http://") && strings.HasSuffix(err.Error(), "400 Bad Request"): // what a TLS server answers to plain HTTP
		return failf(exitUnreachable, "if it speaks TLS, write it as https://", "what answers at %s doesn't understand plain HTTP", i.servers)
	case connect.CodeOf(err) == connect.CodeUnimplemented: // by HTTP's status: the server itself would have said it in its own words
		return failf(exitUnreachable, "is it the people door? an agent's door and the runtime door have other ports",
			"what answers at %s is no control plane: %w", i.servers, err)
	case errors.As(err, &op): // refused, or cut off in the middle
		cause = op
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF): // accepted and cut off: it died, or speaks something else
		return failf(exitUnreachable, "is it alive? see its log; an agent's door and the runtime door have other ports than the people door",
			"%s cut the connection off", i.servers)
	case connect.CodeOf(err) != connect.CodeUnavailable:
		return err
	}
	return failf(exitUnreachable, `start one with "agentctl up DIR" or "controlplane", or name another with --server or AGENTCTL_SERVER`,
		"no control plane answers at %s: %w", i.servers, cause)
}
