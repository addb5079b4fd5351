package peers_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/internal/errs"
)

// Links end with the era in which they were opened: a replica that hasn't seen the new one feeds nothing into it, and one of another
// cluster stays away.
func TestLinksEndWithTheirEra(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var shown atomic.Int64 // by two's view
	shown.Store(7)
	one := w.replica("one", func(c *peers.Config) { c.Revision = func() int64 { return 20 } })
	two := w.replica("two", func(c *peers.Config) { c.Revision = shown.Load })
	two.hello("i")
	eventually(t, "one knows i", func() bool { return one.at("i") == "two" && two.linked(1)() })

	// One's view shows a new epoch, two's doesn't yet.
	one.peers.Renew(10)
	eventually(t, "i's link is lost", func() bool { return one.at("i") == "" })
	never(t, "one heard a replica of the era before", func() bool { return one.at("i") != "" || one.linked(1)() })
	if one.table.Complete(time.Now().Add(time.Hour)) {
		t.Error("the fleet is complete without a replica that is registered")
	}
	shown.Store(12)
	two.peers.Renew(10)
	eventually(t, "both are of one era", func() bool { return one.at("i") == "two" && one.linked(1)() && two.linked(1)() })

	// One becomes another cluster (--other-cluster), and two doesn't know of it yet.
	become := func(r *replica, cluster string) {
		r.mu.Lock()
		r.clusterID = cluster
		r.mu.Unlock()
		r.peers.Renew(15)
	}
	become(one, "d")
	eventually(t, "i's link is lost", func() bool { return one.at("i") == "" })
	eventually(t, "two's link is lost", func() bool { return !two.linked(1)() })
	never(t, "two clusters are linked", func() bool { return one.at("i") != "" || one.linked(1)() || two.linked(1)() })
	shown.Store(16)
	become(two, "d")
	eventually(t, "both are of one cluster", func() bool { return one.at("i") == "two" && one.linked(1)() && two.linked(1)() })
}

// A link whose hello comes when the era has ended is refused, whatever was checked before.
func TestALinkThatBeganInAnEraThatIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	checked, renewed := make(chan struct{}, 1), make(chan struct{})
	var asked atomic.Int64
	one := w.replica("one", func(c *peers.Config) {
		c.Cluster = func() string {
			if asked.Add(1) == 1 { // the check of the hello
				checked <- struct{}{}
				<-renewed
			}
			return "c"
		}
	})
	link := w.dial(one, w.authority("two").PeerTLS("one"))
	if err := link.Send(hello("c", "two")); err != nil {
		t.Fatal(err)
	}
	<-checked
	one.peers.Renew(1)
	close(renewed)
	wantEnd(t, link, errs.Unavailable)
}
