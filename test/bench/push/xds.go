package main

import (
	"context"
	"fmt"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	xdsserver "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

// xdsType is the one resource type that carries everything.
const xdsType = resource.ExtensionConfigType

// xds is go-control-plane's own server over its snapshot cache. The instances of an agent share one snapshot, its best case.
type xds struct {
	cache cache.SnapshotCache
}

// byCluster makes the node's cluster, which is the agent, the key of the cache.
type byCluster struct{}

// ID implements cache.NodeHash.
func (byCluster) ID(n *core.Node) string { return n.GetCluster() }

func newXDS(ctx context.Context, srv *grpc.Server) *xds {
	x := &xds{cache: cache.NewSnapshotCache(true, byCluster{}, nil)}
	discovery.RegisterAggregatedDiscoveryServiceServer(srv, xdsserver.NewServer(ctx, x.cache, nil))
	return x
}

// publish sets an agent's snapshot: the same resources, each as a TypedExtensionConfig around the same bytes.
func (x *xds) publish(ctx context.Context, agent string, content *pushv1.Content, version int64) error {
	var all []types.Resource
	for _, r := range content.GetResources() {
		all = append(all, &core.TypedExtensionConfig{
			Name:        r.GetKind() + "/" + r.GetName(),
			TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/agentry." + r.GetKind(), Value: r.GetJson()},
		})
	}
	s, err := cache.NewSnapshot(fmt.Sprint(version), map[resource.Type][]types.Resource{xdsType: all})
	if err != nil {
		return err
	}
	return x.cache.SetSnapshot(ctx, agent, s)
}
