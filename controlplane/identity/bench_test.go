package identity_test

import (
	"testing"
)

// BenchmarkVerify is what a new connection costs beside its handshake, and what a new stream of it costs.
func BenchmarkVerify(b *testing.B) {
	c := newCluster(b)
	a := c.replica("r1", nil)
	chain := parse(b, give(b, a, helper("i1")).Chain)
	p, err := a.Chain(chain)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("chain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Chain(chain); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("standing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := a.Standing(p, c.clock.now()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkIssue is what a certificate costs without writing it down.
func BenchmarkIssue(b *testing.B) {
	a := newCluster(b).replica("r1", nil)
	key := &newKey(b).PublicKey
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Issue(helper("i1"), key); err != nil {
			b.Fatal(err)
		}
	}
}
