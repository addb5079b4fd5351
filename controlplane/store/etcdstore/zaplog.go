package etcdstore

import (
	"context"
	"log/slog"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger gives etcd a logger whose entries from a level on end in log; the rest is dropped.
func zapLogger(log *slog.Logger, from zapcore.Level) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return zap.New(&bridge{log: log, from: from})
}

// bridge is a zapcore.Core over slog.
type bridge struct {
	log    *slog.Logger
	from   zapcore.Level
	fields []zapcore.Field
}

// Enabled lets the levels from b.from on through.
func (b *bridge) Enabled(l zapcore.Level) bool { return l >= b.from }

// With adds fields.
func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	all := append(append([]zapcore.Field(nil), b.fields...), fields...)
	return &bridge{log: b.log, from: b.from, fields: all}
}

// Check takes an entry that is enabled.
func (b *bridge) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) && !moot(e.Message) {
		return ce.AddCore(e, b)
	}
	return ce
}

// moot names warnings at every start that are about what the embedded member does not have: listeners, and etcd's own users.
func moot(message string) bool {
	return strings.HasPrefix(message, "Running http and grpc server on single port") || message == "simple token is not cryptographically signed"
}

// Write passes an entry on. etcd's message becomes an attribute: ours is constant.
func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), b.fields...), fields...) {
		f.AddTo(enc)
	}
	attrs := []slog.Attr{slog.String("message", e.Message)}
	for key, value := range enc.Fields {
		attrs = append(attrs, slog.Any(strings.ReplaceAll(key, "-", "_"), value))
	}
	b.log.LogAttrs(context.Background(), level, "etcd says", attrs...)
	return nil
}

// Sync has nothing to flush.
func (b *bridge) Sync() error { return nil }
