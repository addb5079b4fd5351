package strategy

import "github.com/agentry/agentry/agentd/memory"

// turnTokens is what a message costs beside its text, roughly.
const turnTokens = 4

// budget counts messages and tokens. As a limit, 0 is none.
type budget struct{ turns, tokens int }

// limits is what the compression allows.
func (m *Memory) limits() budget {
	if m.cfg.Compression == None {
		return budget{}
	}
	return budget{turns: m.cfg.MaxTurns, tokens: m.cfg.MaxTokens}
}

func (b budget) plus(o budget) budget { return budget{b.turns + o.turns, b.tokens + o.tokens} }

func (b budget) within(limit budget) bool {
	return (limit.turns == 0 || b.turns <= limit.turns) && (limit.tokens == 0 || b.tokens <= limit.tokens)
}

// half is the part of a limit that is kept for the newest exchanges.
func (b budget) half() budget { return budget{(b.turns + 1) / 2, (b.tokens + 1) / 2} }

// cost is what an exchange takes of a budget.
func cost(e []memory.Turn, count func(string) int) budget {
	b := budget{turns: len(e)}
	for i := range e {
		b.tokens += turnTokens + count(e[i].Text)
		for _, u := range e[i].Tools {
			b.tokens += 2*turnTokens + count(u.Name) + count(u.Arguments) + count(u.Result)
		}
	}
	return b
}

// newest gives the index from which exchanges fit a limit of which spent is used up.
func (m *Memory) newest(exchanges [][]memory.Turn, spent, limit budget, count func(string) int) int {
	if limit == (budget{}) {
		return 0
	}
	from := len(exchanges)
	for from > 0 {
		spent = spent.plus(cost(exchanges[from-1], count))
		if !spent.within(limit) {
			break
		}
		from--
	}
	return from
}
