package app

import (
	"flag"
	"log/slog"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/secret"
)

// AuditConfig says where audit entries go beside the store.
type AuditConfig struct {
	// File gets every entry as a line of JSON; empty: none.
	File string
	// OTLP is the URL of an OpenTelemetry collector that gets this replica's entries as log records; empty: the OTEL_* variables say.
	OTLP string
}

func auditFlags(fs *flag.FlagSet, c *AuditConfig) {
	fs.StringVar(&c.File, "audit-file", c.File, "`file` that gets every audit entry as a line of JSON, oldest first; moved away, it is made anew")
	fs.StringVar(&c.OTLP, "audit-otlp", c.OTLP, "`URL` of an OpenTelemetry collector that gets this replica's audit entries; default: what the OTEL_EXPORTER_OTLP_* variables say, else none")
}

// trail is the audit log of this process.
type trail struct {
	store   store.Store // writes every change with its entry
	queue   *audit.Queue
	chainer *audit.Chainer
}

// newTrail puts the audit log before a store. What is written to that store without it has no entry.
func newTrail(s store.Store, replica string, redact *secret.Redactor, log *slog.Logger) (*trail, error) {
	origin := audit.Origin{Replica: replica, Redact: redact.Redact}
	queue, err := audit.NewQueue(audit.QueueConfig{Store: s, Origin: origin, Logger: log})
	if err != nil {
		return nil, err
	}
	chainer, err := audit.NewChainer(audit.ChainerConfig{Store: s, Origin: origin, Logger: log})
	if err != nil {
		return nil, err
	}
	return &trail{store: audit.Wrap(s, origin), queue: queue, chainer: chainer}, nil
}

// parts are what runs.
func (t *trail) parts() []part {
	return []part{
		{"audit queue", t.queue.Run},
		{"audit chain", t.chainer.Run},
	}
}
