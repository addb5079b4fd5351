package fleet_test

import (
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
)

// TestRenew: after the end of an era the fleet is complete again when everybody is back, or after the time that a start waits.
func TestRenew(t *testing.T) {
	start := time.Now()
	table, err := fleet.New(fleet.Config{Started: start, Replica: "r"})
	if err != nil {
		t.Fatal(err)
	}
	hello := func(instance string, at time.Time) fleet.Key {
		return table.Hello(fleet.Hello{ID: snapshot.InstanceID{Namespace: "default", Agent: "a", Instance: instance}}, at).Key
	}
	complete := func(what string, at time.Time, want bool) {
		t.Helper()
		table.Tick(at)
		if got := table.Complete(at); got != want {
			t.Errorf("%s: complete %v", what, got)
		}
	}
	one, two := hello("one", start), hello("two", start)
	complete("before", start, true)
	restore := start.Add(time.Minute)
	table.Renew(restore)
	complete("a restore began", restore, false)
	table.Leave(one, fleet.Lost, restore)
	table.Leave(two, fleet.Lost, restore)
	complete("their streams ended", restore, false)
	epoch := restore.Add(40 * time.Second) // longer than a lease: they are offline
	table.Renew(epoch)
	complete("a new epoch began", epoch, false)
	hello("one", epoch.Add(time.Second))
	complete("one is back", epoch.Add(time.Second), false)
	hello("two", epoch.Add(2*time.Second))
	complete("both are back", epoch.Add(2*time.Second), true)

	table.Renew(epoch.Add(time.Minute))
	complete("another restore", epoch.Add(61*time.Second), false)
	complete("time enough", epoch.Add(2*time.Minute), true)
}
