package stream

import (
	"fmt"
	"sync"
	"testing"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// BenchmarkChange measures one change of one agent from the nudge to the last answer, over N streams in one process, clients
// included. The time per instance must not grow with N.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("streams=%d", n), func(b *testing.B) {
			w := newWorld(b, nil)
			a := eight(10, 1, "0")
			w.set(a)
			answered := make(chan struct{}, n)
			var clients sync.WaitGroup
			peers := make([]*peer, n)
			for i := range n {
				p := w.connect()
				peers[i] = p
				p.send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: hello(fmt.Sprintf("i%d", i))}})
				clients.Go(func() { answerAll(p, answered) })
			}
			for range n {
				<-answered
			}
			b.ReportAllocs()
			b.ResetTimer()
			generation := int64(10)
			for b.Loop() {
				generation++
				w.set(eight(generation, generation, fmt.Sprint(generation)))
				for range n {
					<-answered
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "us/instance")
			b.StopTimer()
			for _, p := range peers {
				p.close()
			}
			clients.Wait()
		})
	}
}

func answerAll(p *peer, answered chan<- struct{}) {
	for {
		m, err := p.stream.Recv()
		if err != nil {
			return
		}
		s := m.GetSnapshot()
		if s == nil {
			continue
		}
		r := &pushv1.Report{Nonce: s.GetNonce(), Phase: applied, Desired: s.GetToken(), Running: s.GetToken()}
		if p.stream.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: r}}) != nil {
			return
		}
		answered <- struct{}{}
	}
}
