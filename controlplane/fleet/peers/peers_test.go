package peers_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

func TestReplicasKnowTheWholeFleet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.replica("one", nil), w.replica("two", nil)
	down := []phase.Fault{{Resource: "mcp/m", Field: "url", Code: phase.Unreachable, Message: "refused", Severity: phase.Error, Retryable: true}}
	k := one.hello("i")
	one.table.Offer(k, fleet.Offer{Desired: ref(1)}, time.Now())
	one.table.Report(k, fleet.Report{Phase: phase.Rejected, Desired: ref(1).Token, Running: ref(2), Faults: down}, time.Now())
	one.table.Servers(k, []fleet.Server{{Name: "m", Healthy: true, Message: "hm", Tools: []fleet.ServerTool{{Name: "t", Description: "d", Digest: "0"}}}})
	eventually(t, "two knows i", func() bool { return two.at("i") == "one" && len(two.table.ServerReports("ns", "a", "m")) == 1 })
	if d := cmp.Diff(one.sees("i"), two.sees("i"), cmpopts.EquateApproxTime(2*time.Second), cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(one.table.ServerReports("ns", "a", "m"), two.table.ServerReports("ns", "a", "m")); d != "" {
		t.Error(d)
	}
	one.table.Used(k, 3, []fleet.ConfigUsage{{Config: "1-a", Usage: fleet.Usage{Requests: 5, Errors: 1}}})
	eventually(t, "two knows what i counted", func() bool { i := two.sees("i"); return i.InFlight == 3 && i.Requests == 5 && i.Errors == 1 })
	if len(two.table.Usage()) != 0 || len(two.table.ServerReports("ns", "a", "m")) != 1 {
		t.Error("what is counted at one is counted there only, and words on servers stand until there are others")
	}
	three := w.replica("three", nil) // it comes later
	for _, r := range []*replica{one, two, three} {
		eventually(t, r.id+" is linked to both others", r.linked(2))
	}
	eventually(t, "three knows i", func() bool { return three.at("i") == "one" })
	if got := three.peers.Replicas(); len(got) != 3 || got[0].ID != "one" || got[0].Streams != 1 || !got[0].Linked || got[0].Revision != 7 || got[0].Runtime != one.address {
		t.Errorf("replicas: %+v", got)
	}
	one.table.Leave(k, fleet.Stopped, time.Now())
	eventually(t, "i is gone", func() bool { return len(two.table.All())+len(three.table.All()) == 0 })
}

func TestTheNewerStreamWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.replica("one", nil), w.replica("two", nil)
	k := one.hello("i")
	eventually(t, "two knows i", func() bool { return two.at("i") == "one" })
	two.hello("i")
	eventually(t, "both see it at two", func() bool { return one.at("i") == "two" && two.at("i") == "two" })
	one.mu.Lock()
	defer one.mu.Unlock()
	if len(one.displaced) != 1 || one.displaced[0].Session != k.Session {
		t.Errorf("displaced at one: %v", one.displaced)
	}
	two.mu.Lock()
	defer two.mu.Unlock()
	if len(two.displaced) != 0 {
		t.Errorf("displaced at two: %v", two.displaced)
	}
}

func TestDropsReachWhoHoldsTheStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.replica("one", nil), w.replica("two", nil)
	i, j := one.hello("i"), two.hello("j")
	one.table.Offer(i, fleet.Offer{Desired: ref(1)}, time.Now())
	two.table.Offer(j, fleet.Offer{Desired: ref(1)}, time.Now())
	eventually(t, "two knows what i should run", func() bool { return two.sees("i").Desired == ref(1) })
	two.peers.Drop(i.ID, ref(2).Token)                                                                 // not what it should run
	two.peers.Drop(snapshot.InstanceID{Namespace: "ns", Agent: "a", Instance: "nobody"}, ref(1).Token) // not there
	two.peers.Drop(i.ID, ref(1).Token)
	two.peers.Drop(j.ID, ref(1).Token) // here
	dropped := func(r *replica) []snapshot.InstanceID {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.Clone(r.dropped)
	}
	eventually(t, "i's retry ends", func() bool { return len(dropped(one)) > 0 })
	if d := cmp.Diff([][]snapshot.InstanceID{{i.ID}, {j.ID}}, [][]snapshot.InstanceID{dropped(one), dropped(two)}); d != "" {
		t.Error(d)
	}
}

func TestALostPeer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.replica("one", nil), w.replica("two", nil)
	one.hello("i")
	eventually(t, "two knows i", func() bool { return two.at("i") == "one" })
	one.stop() // its registration goes with it, as at a clean stop
	eventually(t, "i is away", func() bool { return two.at("i") == "" && two.sees("i").Replica == "one" })
	eventually(t, "one is forgotten", func() bool { return len(two.peers.Replicas()) == 1 && two.peers.Links()[peers.Down] == 0 })
	two.hello("i")
	if two.at("i") != "two" {
		t.Errorf("i is at %q", two.at("i"))
	}
}

// A peer that is registered but doesn't answer makes the fleet incomplete, and its address alone doesn't make anybody a peer.
func TestAPeerThatIsNotWhoItSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	two := w.replica("two", nil)
	one := w.replica("one", func(c *peers.Config) { c.Self.Runtime = two.address }) // two's door answers: it isn't one
	eventually(t, "one hears two", one.linked(1))
	eventually(t, "two tries", func() bool { return two.peers.Links()[peers.Down] == 1 })
	never(t, "two took itself for one", two.linked(1))
	if !one.table.Complete(time.Now().Add(time.Hour)) || two.table.Complete(time.Now().Add(time.Hour)) {
		t.Error("one hears every peer, two doesn't")
	}
}

func TestARegistrationThatIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.replica("one", nil), w.replica("two", nil)
	one.hello("i")
	eventually(t, "they are linked", func() bool { return one.linked(1)() && two.linked(1)() && two.at("i") == "one" })
	tell, err := w.store.Expire(view.ReplicaPrefix + "one")
	if err != nil {
		t.Fatal(err)
	}
	never(t, "a link ended with a registration", func() bool { return two.at("i") != "one" })
	tell()
	eventually(t, "one is registered again", func() bool {
		_, err := w.store.Get(t.Context(), view.ReplicaPrefix+"one")
		return err == nil
	})
	w.store.FailNext(errs.New(errs.Unavailable, "away"))
	if tell, err = w.store.Expire(view.ReplicaPrefix + "one"); err != nil {
		t.Fatal(err)
	}
	tell()
	eventually(t, "one is registered again, in spite of the store", func() bool {
		_, err := w.store.Get(t.Context(), view.ReplicaPrefix+"one")
		return err == nil && len(two.peers.Replicas()) == 2
	})
}

func TestWhoMayLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.replica("one", nil)
	two := w.authority("two")
	for name, tc := range map[string]struct {
		tls  *tls.Config
		say  string
		in   string
		want errs.Kind
	}{
		"another cluster":       {tls: two.PeerTLS("one"), say: "two", in: "other", want: errs.Precondition},
		"by another's name":     {tls: two.PeerTLS("one"), say: "three", in: "c", want: errs.Denied},
		"without a certificate": {tls: anonymous(two.PeerTLS("one")), say: "two", in: "c", want: errs.Unauthenticated},
		"an instance":           {tls: asInstance(t, two), say: "two", in: "c", want: errs.Denied},
		"of another authority":  {tls: trusting(newWorld(t).authority("two").PeerTLS("one")), say: "two", in: "c", want: errs.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream := w.dial(one, tc.tls)
			_ = stream.Send(hello(tc.in, tc.say)) // the answer tells
			wantEnd(t, stream, tc.want)
		})
	}
}

// asInstance shows the certificate of an instance.
func asInstance(t *testing.T, a *identity.Authority) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Issue(identity.Subject{Namespace: "ns", Agent: "a", Instance: "i"}, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	cfg := anonymous(a.PeerTLS("one"))
	cfg.Certificates = []tls.Certificate{{Certificate: c.Chain, PrivateKey: key}}
	return cfg
}

func anonymous(cfg *tls.Config) *tls.Config {
	cfg.GetClientCertificate = nil
	return cfg
}

// trusting takes every server.
func trusting(cfg *tls.Config) *tls.Config {
	cfg.VerifyConnection = nil
	return cfg
}

// A newer link of a replica ends the older one, and one that says nothing is ended by the other side.
func TestLinksThatAreOfNoUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.replica("one", func(c *peers.Config) { c.Silence = 300 * time.Millisecond })
	two := w.authority("two")
	older := w.dial(one, two.PeerTLS("one"))
	if err := older.Send(hello("c", "two")); err != nil {
		t.Fatal(err)
	}
	if m, err := older.Recv(); err != nil || m.GetWelcome().GetReplicaId() != "one" {
		t.Fatalf("%v %v", m, err)
	}
	if m, err := older.Recv(); err != nil || !m.GetDelta().GetSynced() {
		t.Fatalf("%v %v", m, err)
	}
	newer := w.dial(one, two.PeerTLS("one"))
	if err := newer.Send(hello("c", "two")); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, older, errs.Unavailable)
	mute := w.dial(one, two.PeerTLS("one"))
	wantEnd(t, mute, errs.Timeout)
}

// Many instances come over in pieces, and the peer is synced only with the last.
func TestManyInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one := w.replica("one", nil)
	const n = 1000
	tools := make([]fleet.ServerTool, 20)
	for i := range tools {
		tools[i] = fleet.ServerTool{Name: fmt.Sprint("tool", i), Description: "what it does", Digest: manifest.Sum([]byte{byte(i)}).String()}
	}
	for i := range n {
		k := one.hello(fmt.Sprint("i", i))
		one.table.Servers(k, []fleet.Server{{Name: "m", Healthy: true, Tools: tools}})
	}
	two := w.replica("two", nil)
	eventually(t, "two is linked", two.linked(1))
	if got := len(two.table.All()); got != n {
		t.Errorf("synced with %d instances of %d", got, n)
	}
	if got := len(two.table.ServerReports("ns", "a", "m")); got != n {
		t.Errorf("%d instances told of their server", got)
	}
}

// What one instance says of its servers has no bound of its own: it is told as far as it fits.
func TestAnInstanceThatSaysTooMuch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.replica("one", nil), w.replica("two", nil)
	long := make([]byte, 2000)
	for i := range long {
		long[i] = 'x'
	}
	var servers []fleet.Server
	for s := range 20 {
		server := fleet.Server{Name: fmt.Sprint("s", s)}
		for tool := range 2000 {
			server.Tools = append(server.Tools, fleet.ServerTool{Name: fmt.Sprint(string(long[:30]), tool), Description: string(long), Digest: manifest.Sum([]byte{byte(tool)}).String()})
		}
		servers = append(servers, server)
	}
	k := one.hello("i")
	one.table.Servers(k, servers)
	eventually(t, "two knows i", func() bool { return two.at("i") == "one" && len(two.table.ServerReports("ns", "a", "s0")) == 1 })
	one.hello("j")
	eventually(t, "the link lives", func() bool { return two.at("j") == "one" })
}
