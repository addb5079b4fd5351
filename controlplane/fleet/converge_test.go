package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/snapshot"
)

// fabric is several replicas with wrong clocks, links that break, and instances that move, stop and leave half-open streams behind.
type fabric struct {
	t      *testing.T
	r      *rand.Rand
	now    time.Time
	tables []*Table
	skews  []time.Duration
	links  map[[2]int]*Export // what the first hears of the second
	live   map[string]*held   // by instance: the stream that its process has
	stale  []*held            // streams that are dead and not yet seen to be
	hellos int
}

// held is a stream at a replica.
type held struct {
	at  int
	key Key
}

func newFabric(t *testing.T, seed uint64, n int) *fabric {
	t.Helper()
	f := &fabric{
		t: t, r: rand.New(rand.NewPCG(seed, 1)), now: start.Add(time.Hour), links: map[[2]int]*Export{}, live: map[string]*held{},
	}
	for i := range n {
		skew := time.Duration(f.r.Int64N(int64(2*time.Hour))) - time.Hour
		tb, err := New(Config{Started: f.now.Add(skew).Add(-time.Minute), Greeted: true, Replica: fmt.Sprint("r", i)})
		if err != nil {
			t.Fatal(err)
		}
		f.tables, f.skews = append(f.tables, tb), append(f.skews, skew)
	}
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprint("r", i)
	}
	for i, tb := range f.tables {
		tb.Peers(ids, f.clock(i))
	}
	return f
}

func (f *fabric) clock(i int) time.Time { return f.now.Add(f.skews[i]) }

// hello has an instance open a stream at any replica. The one that it had is closed, broken, or dead without anybody knowing.
func (f *fabric) hello(id string) {
	f.hellos++
	if old := f.live[id]; old != nil {
		switch f.r.IntN(3) {
		case 0:
			f.tables[old.at].Leave(old.key, Lost, f.clock(old.at))
		case 1:
			f.tables[old.at].Leave(old.key, Stopped, f.clock(old.at))
		default:
			f.stale = append(f.stale, old)
		}
	}
	at := f.r.IntN(len(f.tables))
	g := f.tables[at].Hello(Hello{ID: snapshot.InstanceID{Namespace: "ns", Agent: "a", Instance: id}, Version: "v1"}, f.clock(at))
	f.live[id] = &held{at: at, key: g.Key}
}

func (f *fabric) stop(id string) {
	if old := f.live[id]; old != nil {
		f.tables[old.at].Leave(old.key, Stopped, f.clock(old.at))
		delete(f.live, id)
	}
}

// flow has one replica hear what another has to tell. Who is sent away though its stream lives comes back.
func (f *fabric) flow(to, from int) {
	f.t.Helper()
	x := f.links[[2]int{to, from}]
	if x == nil {
		return
	}
	d, _, err := x.Take(3+f.r.IntN(5), f.clock(from))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, k := range f.tables[to].Heard(fmt.Sprint("r", from), d, f.clock(to)) {
		f.tables[to].Leave(k, Lost, f.clock(to))
		if now := f.live[k.ID.Instance]; now != nil && now.at == to && now.key.Session == k.Session {
			delete(f.live, k.ID.Instance)
			f.hello(k.ID.Instance)
		}
	}
}

func (f *fabric) link(to, from int) {
	if f.links[[2]int{to, from}] == nil {
		f.links[[2]int{to, from}] = f.tables[from].Export()
	}
}

func (f *fabric) cut(to, from int) {
	if x := f.links[[2]int{to, from}]; x != nil {
		x.Close()
		delete(f.links, [2]int{to, from})
		f.tables[to].LinkLost(fmt.Sprint("r", from), f.clock(to))
	}
}

func (f *fabric) pair() (to, from int) {
	to = f.r.IntN(len(f.tables))
	return to, (to + 1 + f.r.IntN(len(f.tables)-1)) % len(f.tables)
}

func (f *fabric) step() {
	f.now = f.now.Add(time.Duration(f.r.Int64N(int64(200 * time.Millisecond))))
	id := fmt.Sprint("i", f.r.IntN(6))
	to, from := f.pair()
	switch f.r.IntN(12) {
	case 0, 1:
		f.hello(id)
	case 2:
		f.stop(id)
	case 3:
		f.cut(to, from)
	case 4, 5:
		f.link(to, from)
	case 6:
		if n := len(f.stale); n > 0 {
			i := f.r.IntN(n)
			s := f.stale[i]
			f.stale = slices.Delete(f.stale, i, i+1)
			f.tables[s.at].Leave(s.key, Lost, f.clock(s.at))
		}
	default:
		f.flow(to, from)
	}
}

// settle mends everything and lets all be told.
func (f *fabric) settle() {
	f.t.Helper()
	for _, s := range f.stale {
		f.tables[s.at].Leave(s.key, Lost, f.clock(s.at))
	}
	f.stale = nil
	before := f.hellos
	for range 40 {
		for to := range f.tables {
			for from := range f.tables {
				if to != from {
					f.link(to, from)
					f.flow(to, from)
				}
			}
		}
	}
	if n := f.hellos - before; n > len(f.tables)*6 {
		f.t.Errorf("%d streams were sent away before there was peace", n)
	}
}

// connected is what a replica shows of who is connected where.
func (f *fabric) connected(i int) map[string]string {
	out := map[string]string{}
	for _, in := range f.tables[i].All() {
		if in.Connected {
			out[in.ID.Instance] = in.Replica
		}
	}
	return out
}

// Whatever happened before, once all replicas hear each other they agree, and with what is: who lives is connected where its stream is,
// and nobody else is connected.
func TestReplicasConverge(t *testing.T) {
	t.Parallel()
	const seeds = 300
	for seed := range uint64(seeds) {
		f := newFabric(t, seed, 2+int(seed%3))
		for range 120 {
			f.step()
		}
		f.settle()
		want := map[string]string{}
		for id, s := range f.live {
			want[id] = fmt.Sprint("r", s.at)
		}
		for i := range f.tables {
			if d := cmp.Diff(want, f.connected(i)); d != "" {
				t.Errorf("seed %d, replica %d: %s", seed, i, d)
			}
		}
		f.now = f.now.Add(11 * time.Minute) // away for so long are forgotten, and bring nobody back
		for i, tb := range f.tables {
			tb.Tick(f.clock(i))
		}
		for i := range f.tables {
			if n := len(f.tables[i].All()); n != len(want) {
				t.Errorf("seed %d: replica %d still knows %d instances, want %d", seed, i, n, len(want))
			}
		}
		if t.Failed() {
			return
		}
	}
}
