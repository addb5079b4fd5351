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

// bringBack gives the newest exchanges in half of the limit and, in what is left of it, the older ones that answer the query best; all in
// the order in which they were said.
func (m *Memory) bringBack(ctx context.Context, k memory.Key, s Session, query string, spent budget, count func(string) int) [][]memory.Turn {
	limit := m.limits()
	from := m.newest(s.Exchanges, spent, limit.half(), count)
	if n := len(s.Exchanges); from == n && n > 0 && spent.plus(cost(s.Exchanges[n-1], count)).within(limit) {
		from = n - 1 // the last exchange matters most, even if it takes more than half
	}
	for _, e := range s.Exchanges[from:] {
		spent = spent.plus(cost(e, count))
	}
	var back []int
	for _, i := range m.rank(ctx, k, s, query, from) {
		if with := spent.plus(cost(s.Exchanges[i], count)); with.within(limit) {
			spent, back = with, append(back, i)
		}
	}
	slices.Sort(back)
	out := make([][]memory.Turn, 0, len(back)+len(s.Exchanges)-from)
	for _, i := range back {
		out = append(out, s.Exchanges[i])
	}
	return append(out, s.Exchanges[from:]...)
}

// rank gives the indexes of the first n exchanges that answer the query, best first. Where embeddings can't be had, words count alone.
func (m *Memory) rank(ctx context.Context, k memory.Key, s Session, query string, n int) []int {
	n = min(n, len(s.Exchanges))
	switch m.cfg.Search {
	case Keyword:
		return best(keywords(s.Exchanges[:n], query))
	case Vector, Hybrid:
		near, err := m.nearness(ctx, k, s, query, n)
		if err != nil {
			m.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "no embeddings, memory is searched by words", slog.String("error", err.Error()))
			return best(keywords(s.Exchanges[:n], query))
		}
		if m.cfg.Search == Vector {
			return best(near)
		}
		return fuse(n, best(near), best(keywords(s.Exchanges[:n], query)))
	case Recency:
	}
	out := make([]int, 0, n)
	for i := n - 1; i >= 0; i-- {
		out = append(out, i)
	}
	return out
}

// best gives the indexes of the scores above 0, the highest first; the newer first where they are equal.
func best(scores []float64) []int {
	var out []int
	for i, s := range slices.Backward(scores) {
		if s > 0 {
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
	return best(scores)
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
