package tokens_test

import (
	"testing"

	"github.com/agentry/agentry/internal/tokens"
)

func TestEstimate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   string
		want int
	}{
		"empty":        {"", 0},
		"short":        {"a", 1},
		"words":        {"hello world!", 3},
		"chinese":      {"查询配置", 4},
		"mixed":        {"nacos配置", 4},
		"broken bytes": {"\xff\xfe", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tokens.Estimate(tc.in); got != tc.want {
				t.Errorf("Estimate(%q) = %d, want %d", tc.in, got, tc.want)
			}
		})
	}
}
