package commandtest

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	clusterv1 "github.com/agentry/agentry/gen/agentry/cluster/v1"
	"github.com/agentry/agentry/gen/agentry/cluster/v1/clusterv1connect"
)

func (s *Server) cluster(mux *http.ServeMux) {
	mux.Handle(clusterv1connect.NewClusterServiceHandler(clusters{s: s}))
}

// clusters answers the cluster's service. Backups are files of their own, which nothing here makes.
type clusters struct {
	clusterv1connect.UnimplementedClusterServiceHandler

	s *Server
}

// GetCluster answers from GetCluster.json.
func (x clusters) GetCluster(_ context.Context, r *connect.Request[clusterv1.GetClusterRequest]) (*connect.Response[clusterv1.GetClusterResponse], error) {
	return unary[clusterv1.GetClusterRequest, clusterv1.GetClusterResponse](x.s, "GetCluster", r)
}
