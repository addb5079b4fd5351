package fleet_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
)

func TestServersAreWhatTheInstanceToldLast(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	table, err := fleet.New(fleet.Config{Started: now})
	if err != nil {
		t.Fatal(err)
	}
	hello := func(instance string) fleet.Key {
		return table.Hello(fleet.Hello{ID: snapshot.InstanceID{Namespace: "default", Agent: "bot", Instance: instance}}, now).Key
	}
	tools := func(names ...string) fleet.Server {
		s := fleet.Server{Name: "tools", Healthy: true}
		for _, n := range names {
			s.Tools = append(s.Tools, fleet.ServerTool{Name: n, Digest: "d-" + n})
		}
		return s
	}
	a, b := hello("a"), hello("b")
	table.Servers(b, []fleet.Server{tools("x", "y")})
	table.Servers(a, []fleet.Server{tools("x"), {Name: "other", Message: "gone"}})
	table.Servers(a, []fleet.Server{tools("z")})
	want := []fleet.ServerReport{{Instance: "a", Server: tools("z")}, {Instance: "b", Server: tools("x", "y")}}
	if diff := cmp.Diff(want, table.ServerReports("default", "bot", "Tools")); diff != "" {
		t.Error(diff)
	}
	if got := table.ServerReports("default", "bot", "other"); len(got) != 1 || got[0].Healthy || got[0].Message != "gone" {
		t.Errorf("other: %+v", got)
	}

	// A new stream says everything anew; until then the old words stand. The old stream's words count no more.
	again := hello("a")
	table.Servers(a, []fleet.Server{tools("late")})
	if got := table.ServerReports("default", "bot", "tools"); got[0].Tools[0].Name != "z" {
		t.Errorf("words of a replaced stream count: %+v", got)
	}
	table.Servers(again, []fleet.Server{tools("n")})
	if got := table.ServerReports("default", "bot", "other"); len(got) != 0 {
		t.Errorf("what the new stream doesn't mention stays: %+v", got)
	}
	table.Leave(again, fleet.Stopped, now)
	table.Leave(b, fleet.Lost, now)
	table.Tick(now.Add(time.Hour))
	if got := table.ServerReports("default", "bot", "tools"); len(got) != 0 {
		t.Errorf("the dead still speak: %+v", got)
	}
}
