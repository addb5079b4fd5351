package clusterapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/clusterapi"
	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/controlplane/store"
	clusterv1 "github.com/agentry/agentry/gen/agentry/cluster/v1"
)

type known []peers.Replica

func (k known) Replicas() []peers.Replica { return k }

type condition store.Condition

func (c condition) Inspect(context.Context) store.Condition { return store.Condition(c) }

type leads string

func (l leads) Leader() string { return string(l) }

func TestGetCluster(t *testing.T) {
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o, err := clusterapi.NewOverview(clusterapi.OverviewConfig{
		Replicas: known{
			{Record: peers.Record{ID: "a", Version: "1", People: "a:7700", Runtime: "a:7701", Started: started}, Linked: true, Revision: 9, Streams: 4, Complete: true},
			{Record: peers.Record{ID: "b"}, Streams: 2},
		},
		Store: condition{Kind: store.External, Revision: 9, SizeBytes: 10, QuotaBytes: 100, Members: []store.Member{
			{ID: 0xab, Name: "m0", Leader: true, Revision: 9, RaftIndex: 12, ClientURLs: []string{"http://m0"}}, {ID: 0xcd, Name: "m1", Fault: "refused", Alarms: []string{"NOSPACE"}},
		}},
		Leader: leads("b"), Cluster: func() (string, uint64) { return "id", 7 }, Replica: "a", Alarms: func() []string { return []string{"first"} },
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.GetCluster(t.Context(), connect.NewRequest(&clusterv1.GetClusterRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	alarms := got.Msg.GetAlarms()
	got.Msg.Alarms = nil
	want := &clusterv1.GetClusterResponse{
		ClusterId: "id", Epoch: 7, AnsweredBy: "a",
		Replicas: []*clusterv1.Replica{
			{Id: "a", Version: "1", PeopleAddress: "a:7700", RuntimeAddress: "a:7701", Started: timestamppb.New(started), Linked: true, ViewRevision: 9, Streams: 4, FleetComplete: true},
			{Id: "b", Leader: true, Streams: 2},
		},
		Store: &clusterv1.Store{Kind: "external", Revision: 9, SizeBytes: 10, QuotaBytes: 100, Members: []*clusterv1.Member{
			{Id: "ab", Name: "m0", Leader: true, Revision: 9, RaftIndex: 12, ClientUrls: []string{"http://m0"}}, {Id: "cd", Name: "m1", Fault: "refused", Alarms: []string{"NOSPACE"}},
		}},
	}
	if diff := cmp.Diff(want, got.Msg, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	told := strings.Join(alarms, "\n")
	for _, want := range []string{"first", "m1 doesn't answer", "m1 is out of space", "replica b isn't heard"} {
		if !strings.Contains(told, want) {
			t.Errorf("alarms %q, want %q", told, want)
		}
	}
	if strings.Contains(told, "no replica leads") {
		t.Errorf("alarms %q", told)
	}
}
