package redistask_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/task/redistask"
	"github.com/agentry/agentry/test/harness"
)

// BenchmarkAnswer writes an answer in pieces of 500 bytes, with somebody who watches in another process.
func BenchmarkAnswer(b *testing.B) {
	server := harness.StartRedis(b, harness.RedisOptions{})
	for _, pieces := range []int{20, 200, 2000} {
		b.Run(fmt.Sprint(pieces), func(b *testing.B) {
			s := open(b, redistask.Config{Client: client(b, server, agent(b), "")})
			other := open(b, redistask.Config{Client: client(b, server, agent(b), "")})
			n := 0
			for b.Loop() {
				n++
				r := begun(s, fmt.Sprint("t", n))
				if _, err := s.Create(b.Context(), r); err != nil {
					b.Fatal(err)
				}
				_, f, err := other.Watch(b.Context(), r.Ref())
				if err != nil {
					b.Fatal(err)
				}
				e := piece(strings.Repeat("x", 500))
				for range pieces {
					if err := tell(b.Context(), s, r.Ref(), e); err != nil {
						b.Fatal(err)
					}
				}
				if err := tell(b.Context(), s, r.Ref(), status(task.Completed)); err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = f.Next(b.Context())
				}
				if f.Close(); !errors.Is(err, task.ErrEnded) && !errors.Is(err, task.ErrLagged) {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n*pieces), "us/piece")
		})
	}
}

// BenchmarkTask is a short task: made, told of, ended and read.
func BenchmarkTask(b *testing.B) {
	server := harness.StartRedis(b, harness.RedisOptions{})
	s := open(b, redistask.Config{Client: client(b, server, agent(b), "")})
	n := 0
	for b.Loop() {
		n++
		r := begun(s, fmt.Sprint("t", n))
		if _, err := s.Create(b.Context(), r); err != nil {
			b.Fatal(err)
		}
		if err := tell(b.Context(), s, r.Ref(), piece("the answer"), status(task.Completed)); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Get(b.Context(), r.Ref()); err != nil {
			b.Fatal(err)
		}
	}
}
