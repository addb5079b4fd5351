package strategy

import (
	"math"
	"strings"
	"unicode"

	"github.com/agentry/agentry/agentd/memory"
)

// The constants of BM25, as they are commonly chosen.
const (
	saturation = 1.2
	byLength   = 0.75
)

// keywords scores exchanges by the words that they share with the query (BM25); 0 where they share none.
func keywords(exchanges [][]memory.Turn, query string) []float64 {
	scores := make([]float64, len(exchanges))
	wanted := map[string]bool{}
	for _, w := range words(query) {
		wanted[w] = true
	}
	if len(wanted) == 0 {
		return scores
	}
	seen := make([]map[string]int, len(exchanges)) // by exchange: how often a wanted word is in it
	length := make([]int, len(exchanges))
	holders := map[string]int{} // in how many exchanges a wanted word is
	total := 0
	for i, e := range exchanges {
		seen[i] = map[string]int{}
		for _, t := range e {
			for _, w := range words(t.Text) {
				length[i]++
				if wanted[w] {
					seen[i][w]++
				}
			}
		}
		total += length[i]
		for w := range seen[i] {
			holders[w]++
		}
	}
	mean := max(float64(total)/float64(max(len(exchanges), 1)), 1)
	for i := range exchanges {
		for w, n := range seen[i] {
			rare := math.Log(1 + (float64(len(exchanges))-float64(holders[w])+0.5)/(float64(holders[w])+0.5))
			f := float64(n)
			scores[i] += rare * f * (saturation + 1) / (f + saturation*(1-byLength+byLength*float64(length[i])/mean))
		}
	}
	return scores
}

// words splits a text into lower-case words; scripts without spaces between words give pairs of letters.
func words(text string) []string {
	var out []string
	for _, field := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) }) {
		out = split(out, []rune(field))
	}
	return out
}

// split appends a run of letters: each stretch of unspaced script as pairs, what is between as it is.
func split(out []string, run []rune) []string {
	for len(run) > 0 {
		n, dense := 1, unspaced(run[0])
		for n < len(run) && unspaced(run[n]) == dense {
			n++
		}
		switch {
		case !dense || n == 1:
			out = append(out, string(run[:n]))
		default:
			for i := range n - 1 {
				out = append(out, string(run[i:i+2]))
			}
		}
		run = run[n:]
	}
	return out
}

func unspaced(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}
