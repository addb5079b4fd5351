package a2adoor

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/internal/a2a"
)

// Open are the mux patterns that everybody may ask: the card says how to show a key.
func Open() []string { return []string{a2a.CardPath, a2a.KeysPath} }

// Guarded are the mux patterns that belong behind the front.
func Guarded() []string {
	return []string{"/a2a", "/a2a/", "/" + pb.A2AService_ServiceDesc.ServiceName + "/", "/" + old.A2AService_ServiceDesc.ServiceName + "/"}
}

// isGRPC reports whether a path is one of the gRPC services, of 1.0 or of 0.3.
func isGRPC(path string) bool {
	return strings.HasPrefix(path, "/"+pb.A2AService_ServiceDesc.ServiceName+"/") || strings.HasPrefix(path, "/"+old.A2AService_ServiceDesc.ServiceName+"/")
}

// ServeHTTP implements http.Handler.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	switch {
	case path == a2a.CardPath || path == a2a.KeysPath:
		d.serveOpen(w, r)
	case isGRPC(path):
		d.grpc.ServeHTTP(w, d.traced(r))
	case path == "/a2a" || path == "/a2a/":
		d.serveJSONRPC(w, d.traced(r))
	case strings.HasPrefix(path, "/a2a/v1/"):
		d.serveREST(w, d.traced(r))
	default:
		d.refuseHTTP(w, a2a.Fail(a2a.MethodNotFound, "there is nothing at "+path))
	}
}

// traced puts the caller's trace into the context.
func (d *Door) traced(r *http.Request) *http.Request {
	return r.WithContext(d.cfg.Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header)))
}

// serveOpen answers what everybody may ask, from any page.
func (d *Door) serveOpen(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		d.refuseHTTP(w, a2a.Fail(a2a.NotAllowed, r.Method+" is not allowed here"))
	case r.URL.Path == a2a.CardPath:
		d.serveCard(w, r)
	default:
		d.serveKeys(w, r)
	}
}

// Refuse answers a request that the front refused.
func (d *Door) Refuse(w http.ResponseWriter, r *http.Request, refusal front.Refusal) {
	reason := a2a.Unavailable
	switch refusal.Code {
	case front.CodeUnauthenticated:
		reason = a2a.Unauthenticated
	case front.CodeForbidden:
		reason = a2a.PermissionDenied
	case front.CodeRateLimited:
		reason = a2a.Exhausted
	case front.CodeTooLarge:
		reason = a2a.TooLarge
	}
	fault := a2a.Fail(reason, refusal.Message)
	switch {
	case isGRPC(r.URL.Path):
		refuseGRPC(w, fault)
	case strings.HasPrefix(r.URL.Path, "/a2a/v1/") && d.legacy(d.service(r)):
		d.refuseV03(w, fault)
	case strings.HasPrefix(r.URL.Path, "/a2a/v1/"):
		d.refuseHTTP(w, fault)
	default:
		writeJSONRPC(w, refusal.Status, errorAnswer(nil, fault))
	}
}

// service reads the service parameters of an HTTP request.
func (d *Door) service(r *http.Request) params {
	versions := r.Header.Values(a2a.HeaderVersion)
	if r.Header.Get(a2a.HeaderVersion) == "" && len(versions) < 2 {
		versions = r.URL.Query()[a2a.HeaderVersion]
	}
	version := ""
	if len(versions) > 0 {
		version = versions[0]
	}
	return params{version: version, versions: len(versions), extensions: a2a.Extensions(r.Header.Values(a2a.HeaderExtensions)), base: d.base(r)}
}

// answering sets what every answer to a request says.
func (d *Door) answering(w http.ResponseWriter, p params) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if on := d.activated(p.extensions); len(on) > 0 {
		w.Header().Set(a2a.HeaderExtensions, strings.Join(on, ","))
	}
}

// body reads a request's body, which has to come in time.
func (d *Door) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // not every writer has one
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, d.cfg.MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, a2a.Fail(a2a.TooLarge, "the request is larger than "+strconv.FormatInt(large.Limit, 10)+" bytes")
	case err != nil:
		return nil, a2a.Fail(a2a.ParseError, "the request's body did not come whole")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return b, nil
}

// speaksJSON refuses bodies that say they are something else.
func speaksJSON(r *http.Request) error {
	declared := r.Header.Get("Content-Type")
	if declared == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(declared)
	if err != nil || media != a2a.MediaJSON && media != a2a.MediaA2A {
		return a2a.Fail(a2a.ContentTypeNotSupported, "want a body of "+a2a.MediaJSON+" or "+a2a.MediaA2A+", not "+strconv.Quote(declared))
	}
	return nil
}

// refuseHTTP answers with an error of the HTTP+JSON binding.
func (d *Door) refuseHTTP(w http.ResponseWriter, err error) {
	fault := d.fault(err)
	body := fault.HTTP()
	h := w.Header()
	h.Set("Content-Type", a2a.MediaA2A)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if fault.Reason == a2a.Exhausted && h.Get("Retry-After") == "" {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(fault.Reason.Codes().HTTP)
	_, _ = w.Write(body) // #nosec G705 -- JSON, and its type says so
}

// events writes Server-Sent Events. The header goes with the first one: what fails before is an ordinary answer.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	started bool
}

func newEvents(w http.ResponseWriter) *events {
	return &events{w: w, control: http.NewResponseController(w)}
}

// send writes one event, or a comment where there is none to write.
func (e *events) send(data []byte) error {
	if data == nil {
		return e.write([]byte(": alive\n\n"))
	}
	out := make([]byte, 0, len(data)+8)
	out = append(out, "data: "...)
	out = append(out, data...)
	return e.write(append(out, "\n\n"...))
}

// named writes one event that has a name.
func (e *events) named(name string, data []byte) error {
	return e.write([]byte("event: " + name + "\ndata: " + string(data) + "\n\n"))
}

func (e *events) write(event []byte) error {
	if !e.started {
		e.started = true
		h := e.w.Header()
		h.Set("Content-Type", a2a.MediaStream)
		h.Set("Cache-Control", "no-cache, no-transform")
		h.Set("X-Accel-Buffering", "no")
		e.w.WriteHeader(http.StatusOK)
	}
	_ = e.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has one
	if _, err := e.w.Write(event); err != nil {                  // #nosec G705 -- JSON in an event stream
		return err
	}
	return e.control.Flush()
}

// left reports whether an error of a stream only says that its reader has left.
func left(ctx context.Context) bool { return ctx.Err() != nil }
