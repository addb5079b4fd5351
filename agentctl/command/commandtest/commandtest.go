// Package commandtest is a control plane's people door for tests of agentctl: it answers every method of the services
// from files and keeps what it was asked. It stores nothing and judges nothing.
package commandtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
)

// Canned is one answer as a file holds it: the N-th call of a method reads METHOD.N.json, else METHOD.json.
type Canned struct {
	// Response is the answer of a unary method, as protobuf JSON.
	Response json.RawMessage `json:"response"`
	// Messages are the answers of a stream; with Hold it stays open behind them.
	Messages []json.RawMessage `json:"messages"`
	Hold     bool              `json:"hold"`
	Error    *Failure          `json:"error"`
}

// Failure is an error to answer; Faults becomes its detail.
type Failure struct {
	Code    connect.Code    `json:"code"`
	Message string          `json:"message"`
	Faults  json.RawMessage `json:"faults"`
}

// Server answers from the files of a folder and writes what it was asked to METHOD.N.request.json there. Safe for many goroutines.
type Server struct {
	dir   string
	token string
	vars  *strings.Replacer

	mu    sync.Mutex // guards calls
	calls map[string]int
}

var (
	_ specv1connect.SpecServiceHandler      = (*Server)(nil)
	_ releasev1connect.StatusServiceHandler = (*Server)(nil)
)

// New makes a server for the files in dir. An empty token lets everybody in. vars are pairs of texts replaced in every file.
func New(dir, token string, vars ...string) *Server {
	return &Server{dir: dir, token: token, vars: strings.NewReplacer(vars...), calls: map[string]int{}}
}

// Handler gives all services.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(specv1connect.NewSpecServiceHandler(s))
	mux.Handle(releasev1connect.NewStatusServiceHandler(s))
	s.registries(mux)
	s.trust(mux)
	s.cluster(mux)
	return mux
}

// load finds the answer of this call and keeps the question.
func (s *Server) load(method string, header http.Header, req any) (*Canned, error) {
	if s.token != "" && !public(method) && header.Get("Authorization") != "Bearer "+s.token {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("a bearer token is needed"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[method]++
	m, ok := req.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%s: %T is no message", method, req)
	}
	asked, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	// protojson varies its blanks on purpose; files are compared by text.
	var loose any
	if err := json.Unmarshal(asked, &loose); err != nil {
		return nil, err
	}
	if asked, err = json.Marshal(loose); err != nil {
		return nil, err
	}
	call := fmt.Sprintf("%s.%d", method, s.calls[method])
	if err := os.WriteFile(filepath.Join(s.dir, call+".request.json"), append(asked, '\n'), 0o600); err != nil {
		return nil, err
	}
	for _, name := range []string{call, method} {
		b, err := os.ReadFile(filepath.Clean(filepath.Join(s.dir, name+".json")))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c := &Canned{}
		if err := json.Unmarshal([]byte(s.vars.Replace(string(b))), c); err != nil {
			return nil, fmt.Errorf("%s.json: %w", name, err)
		}
		return c, nil
	}
	return nil, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("no canned answer for %s", method))
}

// err gives the failure of a canned answer, nil if there is none.
func (c *Canned) err() error {
	if c.Error == nil {
		return nil
	}
	out := connect.NewError(c.Error.Code, errors.New(c.Error.Message))
	if c.Error.Faults == nil {
		return out
	}
	faults := &specv1.Faults{}
	if err := protojson.Unmarshal(c.Error.Faults, faults); err != nil {
		return err
	}
	d, err := connect.NewErrorDetail(faults)
	if err != nil {
		return err
	}
	out.AddDetail(d)
	return out
}

// unary answers a method that answers once.
func unary[Req, Resp any](s *Server, method string, req *connect.Request[Req]) (*connect.Response[Resp], error) {
	c, err := s.load(method, req.Header(), req.Msg)
	if err != nil {
		return nil, err
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	out := new(Resp)
	return connect.NewResponse(out), read(c.Response, out)
}

// stream answers a method that goes on.
func stream[Req, Resp any](ctx context.Context, s *Server, method string, req *connect.Request[Req], to *connect.ServerStream[Resp]) error {
	c, err := s.load(method, req.Header(), req.Msg)
	if err != nil {
		return err
	}
	for _, raw := range c.Messages {
		out := new(Resp)
		if err := read(raw, out); err != nil {
			return err
		}
		if err := to.Send(out); err != nil {
			return err
		}
	}
	if c.Hold {
		<-ctx.Done()
	}
	return c.err()
}

func read(raw json.RawMessage, into any) error {
	m, ok := into.(proto.Message)
	if !ok || raw == nil {
		return nil
	}
	return protojson.Unmarshal(raw, m)
}

// Apply implements specv1connect.SpecServiceHandler, as all down to Schema do.
func (s *Server) Apply(_ context.Context, r *connect.Request[specv1.ApplyRequest]) (*connect.Response[specv1.ApplyResponse], error) {
	return unary[specv1.ApplyRequest, specv1.ApplyResponse](s, "Apply", r)
}

// Validate answers from Validate.json.
func (s *Server) Validate(_ context.Context, r *connect.Request[specv1.ValidateRequest]) (*connect.Response[specv1.ValidateResponse], error) {
	return unary[specv1.ValidateRequest, specv1.ValidateResponse](s, "Validate", r)
}

// Get answers from Get.json.
func (s *Server) Get(_ context.Context, r *connect.Request[specv1.GetRequest]) (*connect.Response[specv1.GetResponse], error) {
	return unary[specv1.GetRequest, specv1.GetResponse](s, "Get", r)
}

// List answers from List.json.
func (s *Server) List(_ context.Context, r *connect.Request[specv1.ListRequest]) (*connect.Response[specv1.ListResponse], error) {
	return unary[specv1.ListRequest, specv1.ListResponse](s, "List", r)
}

// Watch answers from Watch.json.
func (s *Server) Watch(ctx context.Context, r *connect.Request[specv1.WatchRequest], to *connect.ServerStream[specv1.WatchResponse]) error {
	return stream(ctx, s, "Watch", r, to)
}

// History answers from History.json.
func (s *Server) History(_ context.Context, r *connect.Request[specv1.HistoryRequest]) (*connect.Response[specv1.HistoryResponse], error) {
	return unary[specv1.HistoryRequest, specv1.HistoryResponse](s, "History", r)
}

// Diff answers from Diff.json.
func (s *Server) Diff(_ context.Context, r *connect.Request[specv1.DiffRequest]) (*connect.Response[specv1.DiffResponse], error) {
	return unary[specv1.DiffRequest, specv1.DiffResponse](s, "Diff", r)
}

// Rollback answers from Rollback.json.
func (s *Server) Rollback(_ context.Context, r *connect.Request[specv1.RollbackRequest]) (*connect.Response[specv1.RollbackResponse], error) {
	return unary[specv1.RollbackRequest, specv1.RollbackResponse](s, "Rollback", r)
}

// Delete answers from Delete.json.
func (s *Server) Delete(_ context.Context, r *connect.Request[specv1.DeleteRequest]) (*connect.Response[specv1.DeleteResponse], error) {
	return unary[specv1.DeleteRequest, specv1.DeleteResponse](s, "Delete", r)
}

// Export answers from Export.json.
func (s *Server) Export(_ context.Context, r *connect.Request[specv1.ExportRequest]) (*connect.Response[specv1.ExportResponse], error) {
	return unary[specv1.ExportRequest, specv1.ExportResponse](s, "Export", r)
}

// Schema answers from Schema.json.
func (s *Server) Schema(_ context.Context, r *connect.Request[specv1.SchemaRequest]) (*connect.Response[specv1.SchemaResponse], error) {
	return unary[specv1.SchemaRequest, specv1.SchemaResponse](s, "Schema", r)
}

// GetStatus implements releasev1connect.StatusServiceHandler, as all below do.
func (s *Server) GetStatus(_ context.Context, r *connect.Request[releasev1.GetStatusRequest]) (*connect.Response[releasev1.GetStatusResponse], error) {
	return unary[releasev1.GetStatusRequest, releasev1.GetStatusResponse](s, "GetStatus", r)
}

// ListStatus answers from ListStatus.json.
func (s *Server) ListStatus(_ context.Context, r *connect.Request[releasev1.ListStatusRequest]) (*connect.Response[releasev1.ListStatusResponse], error) {
	return unary[releasev1.ListStatusRequest, releasev1.ListStatusResponse](s, "ListStatus", r)
}

// WatchStatus answers from WatchStatus.json.
func (s *Server) WatchStatus(ctx context.Context, r *connect.Request[releasev1.WatchStatusRequest], to *connect.ServerStream[releasev1.WatchStatusResponse]) error {
	return stream(ctx, s, "WatchStatus", r, to)
}

// WatchEvents answers from WatchEvents.json.
func (s *Server) WatchEvents(ctx context.Context, r *connect.Request[releasev1.WatchEventsRequest], to *connect.ServerStream[releasev1.WatchEventsResponse]) error {
	return stream(ctx, s, "WatchEvents", r, to)
}

// Info answers from Info.json.
func (s *Server) Info(_ context.Context, r *connect.Request[releasev1.InfoRequest]) (*connect.Response[releasev1.InfoResponse], error) {
	return unary[releasev1.InfoRequest, releasev1.InfoResponse](s, "Info", r)
}
