// Package clusterapi is what people see of the control plane itself: its replicas and its store (Overview), and saving and bringing back what
// it keeps (Archive). It decides nothing about agents.
package clusterapi

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/upkeep"
	clusterv1 "github.com/agentry/agentry/gen/agentry/cluster/v1"
	"github.com/agentry/agentry/internal/errs"
)

// overviewWithin bounds what one question costs: every member is asked at the same time.
const overviewWithin = 4 * time.Second

// replicas gives the control planes that are known here.
type replicas interface{ Replicas() []peers.Replica }

// inspector looks at the store's members.
type inspector interface {
	Inspect(ctx context.Context) store.Condition
}

// elected tells who leads.
type elected interface{ Leader() string }

// OverviewConfig is what NewOverview needs; everything but Alarms is required.
type OverviewConfig struct {
	Replicas replicas
	Store    inspector
	Leader   elected
	// Cluster gives the installation's id and epoch as this replica's view shows them.
	Cluster func() (id string, epoch uint64)
	// Replica is this one's id.
	Replica string
	// Alarms gives what needs a person beside the store's own alarms; nil: nothing does.
	Alarms func() []string
}

// Overview is the part of the cluster's service that tells how everything stands.
type Overview struct{ cfg OverviewConfig }

// NewOverview makes an Overview.
func NewOverview(cfg OverviewConfig) (*Overview, error) {
	if cfg.Replicas == nil || cfg.Store == nil || cfg.Leader == nil || cfg.Cluster == nil || cfg.Replica == "" {
		return nil, errs.New(errs.Invalid, "clusterapi: replicas, store, leader, cluster and replica are required")
	}
	if cfg.Alarms == nil {
		cfg.Alarms = func() []string { return nil }
	}
	return &Overview{cfg: cfg}, nil
}

// GetCluster answers the replicas and the store. It needs no quorum.
func (o *Overview) GetCluster(ctx context.Context, _ *connect.Request[clusterv1.GetClusterRequest]) (*connect.Response[clusterv1.GetClusterResponse], error) {
	ctx, cancel := context.WithTimeout(ctx, overviewWithin)
	defer cancel()
	condition := o.cfg.Store.Inspect(ctx)
	leader := o.cfg.Leader.Leader()
	out := &clusterv1.GetClusterResponse{AnsweredBy: o.cfg.Replica, Store: storeToWire(condition)}
	out.ClusterId, out.Epoch = o.cfg.Cluster()
	all := o.cfg.Replicas.Replicas()
	for _, r := range all {
		out.Replicas = append(out.Replicas, replicaToWire(r, leader))
	}
	out.Alarms = append(o.cfg.Alarms(), upkeep.Alarms(condition)...)
	for _, r := range all {
		if !r.Linked {
			out.Alarms = append(out.Alarms, fmt.Sprintf("replica %s isn't heard from %s: what is known of its instances may be old", r.ID, o.cfg.Replica))
		}
	}
	if leader == "" {
		out.Alarms = append(out.Alarms, "no replica leads: releases don't move on by themselves until one does")
	}
	return connect.NewResponse(out), nil
}

func replicaToWire(r peers.Replica, leader string) *clusterv1.Replica {
	out := &clusterv1.Replica{
		Id: r.ID, Version: r.Version, PeopleAddress: r.People, RuntimeAddress: r.Runtime, Leader: r.ID == leader, Linked: r.Linked,
		ViewRevision: r.Revision, Streams: int64(r.Streams), FleetComplete: r.Complete,
	}
	if !r.Started.IsZero() {
		out.Started = timestamppb.New(r.Started)
	}
	return out
}

func storeToWire(c store.Condition) *clusterv1.Store {
	out := &clusterv1.Store{Kind: string(c.Kind), Revision: c.Revision, SizeBytes: c.SizeBytes, QuotaBytes: c.QuotaBytes, Fault: c.Fault}
	for _, m := range c.Members {
		out.Members = append(out.Members, &clusterv1.Member{
			Id: fmt.Sprintf("%x", m.ID), Name: m.Name, ClientUrls: m.ClientURLs, PeerUrls: m.PeerURLs, Leader: m.Leader, Learner: m.Learner,
			Version: m.Version, SizeBytes: m.SizeBytes, Revision: m.Revision, RaftIndex: m.RaftIndex, Fault: m.Fault, Alarms: m.Alarms,
		})
	}
	return out
}
