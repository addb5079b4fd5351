package spec

import "strings"

// Nearest gives the name of known that is nearest to name by edit distance without case, and whether one is near enough
// to be meant: at most a third of its letters differ, two at least being allowed.
func Nearest(name string, known []string) (string, bool) {
	best, bestAt := "", len(name)+1
	lower := strings.ToLower(name)
	if len(lower) > 128 {
		return "", false
	}
	for _, k := range known {
		if d := distance(lower, strings.ToLower(k)); d < bestAt {
			best, bestAt = k, d
		}
	}
	limit := max(2, len(best)/3)
	if len(best) <= 3 {
		limit = 1
	}
	return best, best != "" && bestAt <= limit
}

// distance counts insertions, deletions, replacements and swaps of neighbours.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	before, prev, cur := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(x); i++ {
		cur[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(y)]
}
