package register

import (
	"testing"
	"time"
)

// op is one line of a history in the tests: at is when it was called, for the next 10 it ran.
func op(at time.Duration, kind Kind, o Op) Op {
	o.Kind, o.Call, o.Return = kind, at, at+10
	if o.Outcome == "" {
		o.Outcome = OK
	}
	return o
}

func TestCheck(t *testing.T) {
	first := State{1, "a"}
	write := op(0, CAS, Op{Expect: 1, Write: "b", Version: 2})
	lost := op(0, CAS, Op{Expect: 1, Write: "b", Outcome: Unknown})
	cases := map[string]struct {
		ops  []Op
		want bool
	}{
		"a write is read":                         {[]Op{write, op(20, Read, Op{Version: 2, Value: "b"})}, true},
		"an acknowledged write is lost":           {[]Op{write, op(20, Read, Op{Version: 1, Value: "a"})}, false},
		"a read during the write may be old":      {[]Op{write, op(5, Read, Op{Version: 1, Value: "a"})}, true},
		"a stale read after a new one":            {[]Op{write, op(3, Read, Op{Version: 2, Value: "b"}), op(15, Read, Op{Version: 1, Value: "a"})}, false},
		"an unknown write may have happened":      {[]Op{lost, op(20, Read, Op{Version: 2, Value: "b"})}, true},
		"or not":                                  {[]Op{lost, op(20, Read, Op{Version: 1, Value: "a"})}, true},
		"or late":                                 {[]Op{lost, op(20, Read, Op{Version: 1, Value: "a"}), op(40, Read, Op{Version: 2, Value: "b"})}, true},
		"but not be taken back":                   {[]Op{lost, op(20, Read, Op{Version: 2, Value: "b"}), op(40, Read, Op{Version: 1, Value: "a"})}, false},
		"nor after its check can't hold any more": {[]Op{lost, op(20, CAS, Op{Expect: 1, Write: "c", Version: 2}), op(40, Read, Op{Version: 3, Value: "b"})}, false},
		"both of two swaps of one version":        {[]Op{write, op(2, CAS, Op{Expect: 1, Write: "c", Version: 3})}, false},
		"refused though it fitted":                {[]Op{op(0, CAS, Op{Expect: 1, Outcome: Stale})}, false},
		"refused as it should":                    {[]Op{write, op(20, CAS, Op{Expect: 1, Outcome: Stale})}, true},
		"refused, but written":                    {[]Op{write, op(20, CAS, Op{Expect: 1, Write: "c", Outcome: Stale}), op(40, Read, Op{Version: 3, Value: "c"})}, false},
		"no change":                               {[]Op{op(0, CAS, Op{Expect: 1}), op(20, Read, Op{Version: 1, Value: "a"})}, true},
		"an unknown read says nothing":            {[]Op{op(0, Read, Op{Version: 9, Outcome: Unknown})}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, late := Check(first, c.ops, time.Minute)
			if got != c.want || late {
				t.Errorf("linearizable: %t (timed out: %t), want %t", got, late, c.want)
			}
		})
	}
}
