package strategy

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"github.com/agentry/agentry/agentd/memory"
)

// fusion is the constant of reciprocal rank fusion: how little the first ranks count more than the next.
const fusion = 60

// relevant is the part of the best score below which an exchange doesn't answer the query: words that every exchange has bring none back.
const relevant = 1.0 / 3

// bringBack gives the newest exchanges in half of the limit, in what is left of it the older ones that answer the query best, and in what
// is left then the next newest; all in the order in which they were said. Those before open are in the summary: they come back only where
// they answer the query, and never in the place of those that aren't, if these fit.
func (m *Memory) bringBack(ctx context.Context, k memory.Key, s Session, query string, spent budget, open int, count func(string) int) [][]memory.Turn {
	limit := m.limits()
	from := m.newest(s.Exchanges[open:], spent, limit, count) + open
	if from > open || open == 0 {
		from = m.newest(s.Exchanges, spent, limit.half(), count)
	}
	if n := len(s.Exchanges); from == n && n > 0 && spent.plus(cost(s.Exchanges[n-1], count)).within(limit) {
		from = n - 1 // the last exchange matters most, even if it takes more than half
	}
	for _, e := range s.Exchanges[from:] {
		spent = spent.plus(cost(e, count))
	}
	back := make([]bool, from)
	for _, i := range m.rank(ctx, k, s, query, from) {
		if with := spent.plus(cost(s.Exchanges[i], count)); with.within(limit) {
			spent, back[i] = with, true
		}
	}
	for i := from - 1; i >= open; i-- {
		if back[i] {
			continue
		}
		if spent = spent.plus(cost(s.Exchanges[i], count)); !spent.within(limit) {
			break
		}
		back[i] = true
	}
	var out [][]memory.Turn
	for i, e := range s.Exchanges[:from] {
		if back[i] {
			out = append(out, e)
		}
	}
	return append(out, s.Exchanges[from:]...)
}

// rank gives the indexes of the first n exchanges that answer the query, best first. Where embeddings can't be had, words count alone.
func (m *Memory) rank(ctx context.Context, k memory.Key, s Session, query string, n int) []int {
	n = min(n, len(s.Exchanges))
	switch m.cfg.Search {
	case Keyword:
		return best(keywords(s.Exchanges[:n], query), relevant)
	case Vector, Hybrid:
		near, err := m.nearness(ctx, k, s, query, n)
		if err != nil {
			m.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "no embeddings, memory is searched by words", slog.String("error", err.Error()))
			return best(keywords(s.Exchanges[:n], query), relevant)
		}
		if m.cfg.Search == Vector {
			return best(near, relevant)
		}
		return fuse(n, best(near, relevant), best(keywords(s.Exchanges[:n], query), relevant))
	case Recency:
	}
	out := make([]int, 0, n)
	for i := n - 1; i >= 0; i-- {
		out = append(out, i)
	}
	return out
}

// best gives the indexes of the scores above 0 and a part of the highest, the highest first; the newer first where they are equal.
func best(scores []float64, part float64) []int {
	var out []int
	least := 0.0
	for _, s := range scores {
		least = max(least, s*part)
	}
	for i, s := range slices.Backward(scores) {
		if s > 0 && s >= least {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	return out
}

// fuse joins rankings of n things by reciprocal rank.
func fuse(n int, rankings ...[]int) []int {
	scores := make([]float64, n)
	for _, r := range rankings {
		for rank, i := range r {
			scores[i] += 1 / float64(fusion+1+rank)
		}
	}
	return best(scores, 0)
}

// bestFirst orders the turns of an exchange that was found.
func bestFirst(e []memory.Turn, query string, by Search) []memory.Turn {
	out := slices.Clone(e)
	if by == Recency {
		slices.Reverse(out)
		return out
	}
	single := make([][]memory.Turn, len(e))
	for i := range e {
		single[i] = e[i : i+1]
	}
	scores := keywords(single, query)
	order := make([]int, len(e))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	for at, i := range order {
		out[at] = e[i]
	}
	return out
}
