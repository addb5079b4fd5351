package tokens_test

import (
	"sync"
	"testing"

	"github.com/agentry/agentry/internal/tokens"
)

func TestCalibrator(t *testing.T) {
	t.Parallel()
	var none *tokens.Calibrator
	none.Observe(1, 2)
	if none.Factor() != 1 || none.Estimate("12345678") != 2 {
		t.Errorf("a nil calibrator: factor %v, estimate %d", none.Factor(), none.Estimate("12345678"))
	}
	for name, tc := range map[string]struct {
		seen [][2]int64
		want float64
	}{
		"nothing":            {nil, 1},
		"the first counts":   {[][2]int64{{100, 150}}, 1.5},
		"later ones by turn": {[][2]int64{{100, 100}, {100, 200}}, 1.2},
		"bounded above":      {[][2]int64{{1, 1000}}, 4},
		"bounded below":      {[][2]int64{{1000, 1}}, 0.25},
		"nonsense":           {[][2]int64{{0, 5}, {5, 0}, {-1, 5}}, 1},
	} {
		c := &tokens.Calibrator{}
		for _, s := range tc.seen {
			c.Observe(s[0], s[1])
		}
		if got := c.Factor(); got < tc.want-1e-9 || got > tc.want+1e-9 {
			t.Errorf("%s: factor %v, want %v", name, got, tc.want)
		}
	}
	c := &tokens.Calibrator{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				c.Observe(10, 20)
				_ = c.Estimate("x")
			}
		})
	}
	wg.Wait()
	if c.Estimate("12345678") != 4 {
		t.Errorf("estimate %d, want 4", c.Estimate("12345678"))
	}
}
