// Package auditapi is the service that reads the audit log: pages of it, its newest entries as they come, and the whole window for
// whoever verifies it. The people door mounts it. It writes nothing but has what waits chained, so that a reader finds what just
// happened.
package auditapi

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/store"
	auditv1 "github.com/agentry/agentry/gen/agentry/audit/v1"
	"github.com/agentry/agentry/gen/agentry/audit/v1/auditv1connect"
	"github.com/agentry/agentry/internal/errs"
)

const (
	permission       = "audit.read"
	defaultNamespace = "default"
	defaultPage      = 100
	maxPage          = 1000
	readAtOnce       = 200
	foldWait         = 2 * time.Second
)

// chainer gives waiting entries their place.
type chainer interface {
	Fold(ctx context.Context) error
	Attend() (leave func())
}

// Config is what New needs; everything is required.
type Config struct {
	Store   store.Store
	Chainer chainer
	Logger  *slog.Logger
}

// Service implements agentry.audit.v1.AuditService. It is safe for concurrent use.
type Service struct {
	auditv1connect.UnimplementedAuditServiceHandler

	cfg Config
}

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Chainer == nil || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "auditapi: something required is missing")
	}
	return &Service{cfg: cfg}, nil
}

// settle chains what waits. Where that can't be done now the log is read as it is.
func (s *Service) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, foldWait)
	defer cancel()
	if err := s.cfg.Chainer.Fold(ctx); err != nil {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "audit log read without what waits for its place", slog.Any("error", err))
	}
}

// List answers entries, newest first.
func (s *Service) List(ctx context.Context, req *connect.Request[auditv1.ListRequest]) (*connect.Response[auditv1.ListResponse], error) {
	want := filterOf(req.Msg)
	below, err := pageOf(req.Msg.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := min(cmp.Or(max(int(req.Msg.GetPageSize()), 0), defaultPage), maxPage)
	if below == 0 {
		s.settle(ctx)
	}
	head, _, err := audit.ReadHead(ctx, s.cfg.Store)
	if err != nil {
		return nil, err
	}
	if below == 0 || below > head.Seq {
		below = head.Seq + 1
	}
	resp := &auditv1.ListResponse{}
	for below > head.AnchorSeq+1 {
		from := max(below-readAtOnce, head.AnchorSeq+1)
		entries, _, err := audit.Read(ctx, s.cfg.Store, from, int(below-from))
		if err != nil {
			return nil, err
		}
		for _, e := range slices.Backward(entries) {
			switch {
			case want.over(e.Entry):
				return connect.NewResponse(resp), nil
			case e.Seq >= below || !want.matches(e.Entry) || !visible(ctx, e.Entry):
				continue
			case len(resp.Entries) == size:
				resp.NextPageToken = strconv.FormatInt(e.Seq+1, 10)
				return connect.NewResponse(resp), nil
			}
			resp.Entries = append(resp.Entries, wire(e))
		}
		below = from
	}
	return connect.NewResponse(resp), nil
}

func pageOf(token string) (int64, error) {
	if token == "" {
		return 0, nil
	}
	below, err := strconv.ParseInt(token, 10, 64)
	if err != nil || below <= 0 {
		return 0, errs.New(errs.Invalid, "page_token %q is none of this service's", token)
	}
	return below, nil
}

// Watch sends entries as they are chained, oldest first.
func (s *Service) Watch(ctx context.Context, req *connect.Request[auditv1.WatchRequest], out *connect.ServerStream[auditv1.WatchResponse]) error {
	want := filter{namespace: namespaceOf(req.Msg.GetNamespace()), all: req.Msg.GetAllNamespaces()}
	if req.Msg.GetSinceSeq() < 0 {
		return errs.New(errs.Invalid, "since_seq is negative")
	}
	defer s.cfg.Chainer.Attend()()
	s.settle(ctx)
	at, err := s.start(ctx, req.Msg.GetSinceSeq())
	if err != nil {
		return err
	}
	send := func(e audit.Chained) error {
		if e.Seq <= at || !want.matches(e.Entry) || !visible(ctx, e.Entry) {
			return nil
		}
		return out.Send(&auditv1.WatchResponse{Entry: wire(e)})
	}
	for {
		entries, revision, err := audit.Read(ctx, s.cfg.Store, at+1, readAtOnce)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return audit.Follow(ctx, s.cfg.Store, revision, send)
		}
		if at > 0 && entries[0].Seq != at+1 {
			return left(at)
		}
		for _, e := range entries {
			if err := send(e); err != nil {
				return err
			}
			at = e.Seq
		}
	}
}

// start gives the seq after which a watch begins.
func (s *Service) start(ctx context.Context, since int64) (int64, error) {
	head, _, err := audit.ReadHead(ctx, s.cfg.Store)
	switch {
	case err != nil:
		return 0, err
	case since == 0:
		return head.Seq, nil
	case since < head.AnchorSeq:
		return 0, left(since)
	}
	return since, nil
}

func left(seq int64) error {
	return errs.New(errs.OutOfRange, "what follows entry %d left the window; the audit file has it", seq)
}

// Chain sends the window as it is stored.
func (s *Service) Chain(ctx context.Context, _ *connect.Request[auditv1.ChainRequest], out *connect.ServerStream[auditv1.ChainResponse]) error {
	s.settle(ctx)
	head, _, err := audit.ReadHead(ctx, s.cfg.Store)
	if err != nil {
		return err
	}
	err = out.Send(&auditv1.ChainResponse{Hash: head.Hash, HeadSeq: head.Seq, Anchor: head.AnchorHash, AnchorSeq: head.AnchorSeq})
	if err != nil {
		return err
	}
	for from := head.AnchorSeq + 1; from <= head.Seq; {
		entries, _, err := audit.Read(ctx, s.cfg.Store, from, readAtOnce)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil // the caller sees that the rest is missing
		}
		for _, e := range entries {
			if e.Seq > head.Seq {
				return nil
			}
			if err := out.Send(&auditv1.ChainResponse{Record: e.Record, Hash: e.Hash}); err != nil {
				return err
			}
		}
		from = entries[len(entries)-1].Seq + 1
	}
	return nil
}

func visible(ctx context.Context, e audit.Entry) bool {
	return access.Visible(ctx, permission, access.Object{Namespace: e.Namespace})
}

func wire(e audit.Chained) *auditv1.Entry {
	out := &auditv1.Entry{
		Seq: e.Seq, Time: timestamppb.New(e.Entry.Time), Type: string(e.Entry.Type), Actor: e.Entry.Actor, Method: e.Entry.Method,
		Permission: e.Entry.Permission, Namespace: e.Entry.Namespace, Objects: e.Entry.Objects, Message: e.Entry.Message,
		RequestId: e.Entry.RequestID, Replica: e.Entry.Replica, Outcome: e.Entry.Outcome, Hash: e.Hash, Previous: e.Previous,
	}
	for _, c := range e.Entry.Changes {
		out.Changes = append(out.Changes, &auditv1.Change{Object: c.Object, Path: c.Path, Before: c.Before, After: c.After})
	}
	return out
}

var _ auditv1connect.AuditServiceHandler = (*Service)(nil)
