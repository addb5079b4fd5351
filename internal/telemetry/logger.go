package telemetry

import (
	"io"
	"log/slog"

	"github.com/agentry/agentry/internal/errs"
)

// NewLogger makes a logger that writes to w. Level is debug, info (also ""), warn or error; format is text (also "") or json.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if level != "" {
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, errs.New(errs.Invalid, "log level %q (debug, info, warn or error)", level)
		}
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	default:
		return nil, errs.New(errs.Invalid, "log format %q (text or json)", format)
	}
}
