package strategy

import (
	"context"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/tokens"
)

// noteTimeout bounds writing down that a summary failed, which ctx's end doesn't stop.
const noteTimeout = 2 * time.Second

// Compact implements memory.Memory. The newest exchanges in half of the limit stay as they are, at least one. The summary goes in the place
// of what it was made of in what reaches the model; History and Search still see the turns while the store holds them.
func (m *Memory) Compact(ctx context.Context, k memory.Key, summarize memory.Summarize) error {
	if m.cfg.Compression != Summarize {
		return nil
	}
	s, err := m.store.Load(ctx, k)
	if err != nil {
		return err
	}
	open := int(min(max(s.Summary.Until-s.First, 0), int64(len(s.Exchanges))))
	size := budget{tokens: tokens.Estimate(s.Summary.Text)}
	for _, e := range s.Exchanges[open:] {
		size = size.plus(cost(e, tokens.Estimate))
	}
	if size.within(m.limits()) {
		return nil
	}
	if f := s.Summary.Failed; f > 0 && size.tokens < f+f/2 {
		return nil
	}
	keep := min(m.newest(s.Exchanges, budget{}, m.limits().half(), tokens.Estimate), len(s.Exchanges)-1)
	if keep <= open {
		return nil // one exchange alone is over the bound: there is nothing older to shorten
	}
	old := flatten(s.Exchanges[open:keep])
	text, err := summarize(ctx, s.Summary.Text, old)
	if err == nil {
		err = shorter(text, s.Summary.Text, old)
	}
	is := Summary{Text: text, Until: s.First + int64(keep)}
	if err != nil {
		is = s.Summary
		is.Failed = size.tokens
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
		defer cancel()
	}
	kept := m.store.Summarise(ctx, k, s.Life, s.Summary, is)
	if errs.Is(kept, errs.Conflict) {
		kept = nil // somebody else was faster, or the session is gone
	}
	if err != nil {
		return err
	}
	return kept
}

// shorter refuses a summary that shortens nothing.
func shorter(text, previous string, of []memory.Turn) error {
	was := tokens.Estimate(previous) + cost(of, tokens.Estimate).tokens
	switch is := tokens.Estimate(text); {
	case text == "":
		return errs.New(errs.Unavailable, "memory: the summary is empty")
	case is >= was:
		return errs.New(errs.Unavailable, "memory: the summary is as long as what it stands for (%d tokens for %d)", is, was)
	default:
		return nil
	}
}
