package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

const (
	sinkBatch   = 200
	sinkWait    = 30 * time.Second // for one batch to be taken
	sinkBackoff = time.Minute
)

// Sink is where chained entries go beyond the store: a file, a collector.
type Sink interface {
	// Position is the seq of the newest entry that it has; negative: it wants what is chained from now on.
	Position() int64
	// Begin tells a sink that wants what is chained from now on where that is, so that it knows after a restart.
	Begin(seq int64) error
	// Write takes entries in order. They count as written when it answers nil; after an error all of them come again.
	Write(ctx context.Context, entries []Chained) error
}

// ForwardConfig is what Forward needs; everything is required.
type ForwardConfig struct {
	Store    store.Store
	Name     string // as logs name the sink
	Sink     Sink
	Recorder Recorder
	Logger   *slog.Logger
}

// Forward gives a sink every chained entry until ctx ends. It reads them from the window at the sink's own pace, so a slow or broken
// one holds up nothing but itself; what left the window before it could be written is told in the log and by an entry.
func Forward(ctx context.Context, cfg ForwardConfig) error {
	if cfg.Store == nil || cfg.Sink == nil || cfg.Recorder == nil || cfg.Logger == nil {
		return errs.New(errs.Invalid, "audit: something required of a sink is missing")
	}
	f := &forwarder{ForwardConfig: cfg, timer: time.NewTimer(time.Hour), at: cfg.Sink.Position()}
	defer f.timer.Stop()
	wait := time.Duration(0)
	for ctx.Err() == nil {
		err := f.step(ctx)
		if err == nil || ctx.Err() != nil {
			wait = 0
			continue
		}
		wait = min(max(2*wait, retryMin), sinkBackoff)
		cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "audit sink lags", slog.String("sink", cfg.Name), slog.Int64("written_to", f.at), slog.Any("error", err), slog.Duration("retry_in", wait))
		pause(ctx, f.timer, wait)
	}
	return nil
}

// forwarder is one Forward under way.
type forwarder struct {
	ForwardConfig

	timer *time.Timer
	at    int64 // what the sink has
	begun bool  // whether at was compared with the chain
}

var errNews = errors.New("something was chained")

// step writes the next entries, or waits for some.
func (f *forwarder) step(ctx context.Context) error {
	if err := f.begin(ctx); err != nil {
		return err
	}
	entries, revision, err := Read(ctx, f.Store, f.at+1, sinkBatch)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		err := Follow(ctx, f.Store, revision, func(Chained) error { return errNews })
		if errors.Is(err, errNews) {
			return nil
		}
		return err
	}
	if missed := entries[0].Seq - f.at - 1; missed > 0 {
		text := fmt.Sprintf("%s: entries %d to %d left the window before they were written", f.Name, f.at+1, entries[0].Seq-1)
		f.Logger.LogAttrs(ctx, slog.LevelError, "audit sink has a gap", slog.String("sink", f.Name), slog.Int64("from", f.at+1), slog.Int64("to", entries[0].Seq-1))
		f.Recorder.Record(Event{Type: Lost, Call: Call{Actor: systemActor}, Message: text, Outcome: "lost"})
		f.at = entries[0].Seq - 1
	}
	bounded, cancel := context.WithTimeout(ctx, sinkWait)
	defer cancel()
	if err := f.Sink.Write(bounded, entries); err != nil {
		return err
	}
	f.at = entries[len(entries)-1].Seq
	return nil
}

// begin finds the place where the sink goes on.
func (f *forwarder) begin(ctx context.Context) error {
	if f.begun {
		return nil
	}
	head, _, err := ReadHead(ctx, f.Store)
	if err != nil {
		return err
	}
	switch {
	case f.at < 0:
		if err := f.Sink.Begin(head.Seq); err != nil {
			return err
		}
		f.at = head.Seq
	case f.at > head.Seq: // the store was put back
		f.Logger.LogAttrs(ctx, slog.LevelError, "audit sink is ahead of the log", slog.String("sink", f.Name), slog.Int64("sink_has", f.at), slog.Int64("log_ends", head.Seq))
		f.at = head.Seq
	case f.at == 0: // a new sink begins with the window
		f.at = head.AnchorSeq
	}
	f.begun = true
	return nil
}
