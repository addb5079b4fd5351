package secret

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
)

// NewHandler wraps a slog handler: messages and attributes reach it redacted, errors and structures included.
func NewHandler(next slog.Handler, r *Redactor) slog.Handler {
	return &handler{next: next, redact: r}
}

type handler struct {
	next   slog.Handler
	redact *Redactor
}

// Enabled asks the wrapped handler.
func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// Handle hands the record on, redacted.
func (h *handler) Handle(ctx context.Context, rec slog.Record) error {
	out := slog.NewRecord(rec.Time, rec.Level, h.redact.Redact(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(h.attr(a))
		return true
	})
	return h.next.Handle(ctx, out)
}

// WithAttrs redacts the attributes once.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		out[i] = h.attr(a)
	}
	return &handler{next: h.next.WithAttrs(out), redact: h.redact}
}

// WithGroup opens a group in the wrapped handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{next: h.next.WithGroup(name), redact: h.redact}
}

func (h *handler) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		v = slog.StringValue(h.redact.Redact(v.String()))
	case slog.KindGroup:
		group := v.Group()
		out := make([]slog.Attr, len(group))
		for i, g := range group {
			out[i] = h.attr(g)
		}
		v = slog.GroupValue(out...)
	case slog.KindAny:
		v = h.any(v)
	default: // numbers, times and bools hold no secret
	}
	return slog.Attr{Key: a.Key, Value: v}
}

// any keeps a structure that shows no secret in either of the forms in which handlers print it.
func (h *handler) any(v slog.Value) slog.Value {
	x := v.Any()
	if err, ok := x.(error); ok {
		return slog.StringValue(h.redact.Redact(err.Error()))
	}
	text := fmt.Sprintf("%+v", x)
	clean := h.redact.Redact(text)
	if clean != text {
		return slog.StringValue(clean)
	}
	if b, err := json.Marshal(x); err == nil {
		if j := string(b); h.redact.Redact(j) != j {
			return slog.StringValue(h.redact.Redact(j))
		}
	}
	return v
}

var _ slog.Handler = (*handler)(nil)
