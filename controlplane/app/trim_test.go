package app

import "testing"

func TestTrim(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for name, tc := range map[string]struct {
		steps []uint64 // MB allocated in each
		want  int      // the step after which memory is given back, from 1; 0: never
	}{
		"after a burst":                       {[]uint64{100, 0, 1, 0, 1, 0}, 5},
		"not in a pause":                      {[]uint64{100, 0, 0, 0, 50, 0, 0, 0, 50}, 0},
		"not for little":                      {[]uint64{30, 0, 0, 0, 0, 0, 0}, 0},
		"for what came together over time":    {[]uint64{30, 0, 0, 0, 0, 33, 0, 1, 0, 0}, 10},
		"not while it goes on":                {[]uint64{100, 3, 3, 3, 3, 3}, 0},
		"not before the burst is surely over": {[]uint64{100, 0, 0, 0}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var at trim
			var allocated uint64
			got := 0
			for i, grown := range tc.steps {
				allocated += grown * mb
				if at.step(allocated) && got == 0 {
					got = i + 1
				}
			}
			if got != tc.want {
				t.Errorf("given back after step %d, want %d", got, tc.want)
			}
			if got > 0 && at.step(allocated) {
				t.Error("given back twice for one burst")
			}
		})
	}
}
