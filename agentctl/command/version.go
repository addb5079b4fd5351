package command

import (
	"context"
	"runtime"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/version"
)

// versionDoc is what version prints; server is null with --client or where none answers.
type versionDoc struct {
	Client clientVersion  `json:"client"`
	Server *serverVersion `json:"server"`
}

type clientVersion struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
}

type serverVersion struct {
	Address        string `json:"address"`
	Version        string `json:"version"`
	ClusterID      string `json:"clusterId"`
	ReplicaID      string `json:"replicaId"`
	Epoch          uint64 `json:"epoch"`
	ViewRevision   int64  `json:"viewRevision"`
	FleetComplete  bool   `json:"fleetComplete"`
	RuntimeAddress string `json:"runtimeAddress"`
	Insecure       bool   `json:"insecure"`
}

func (c *cli) versionCmd() *cobra.Command {
	var out output
	var clientOnly bool
	cmd := &cobra.Command{
		Use: "version", Short: "Versions of agentctl and of the control plane",
		Example: "  agentctl version\n  agentctl version --client -o json", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			doc := versionDoc{Client: ownVersion()}
			t := table{head: []string{"PART", "VERSION", "WHERE"}}
			t.add("agentctl", "agentctl", doc.Client.Version, doc.Client.OS+", "+doc.Client.Go)
			var failed error
			if !clientOnly {
				doc.Server, failed = c.serverVersion(cmd.Context())
			}
			if doc.Server != nil {
				where := doc.Server.Address
				if doc.Server.Insecure {
					where += " (dev mode: plain HTTP, one token)"
				}
				t.add("controlplane", "controlplane", doc.Server.Version, where)
			}
			if err := c.print(out, doc, t); err != nil {
				return err
			}
			return failed
		},
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "agentctl's only; asks no server")
	out.bind(cmd)
	return cmd
}

func ownVersion() clientVersion {
	return clientVersion{Version: version.String(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH}
}

func (c *cli) serverVersion(ctx context.Context) (*serverVersion, error) {
	cl, err := c.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := cl.status.Info(ctx, connect.NewRequest(&releasev1.InfoRequest{}))
	if err != nil {
		return nil, err
	}
	m := resp.Msg
	return &serverVersion{
		Address: cl.server, Version: m.GetVersion(), ClusterID: m.GetClusterId(), ReplicaID: m.GetReplicaId(), Epoch: m.GetEpoch(),
		ViewRevision: m.GetViewRevision(), FleetComplete: m.GetFleetComplete(), RuntimeAddress: m.GetRuntimeAddress(), Insecure: m.GetInsecure(),
	}, nil
}

// revisionOf shows a revision; a move has none.
func revisionOf(n int64) string {
	if n == 0 {
		return "-"
	}
	return itoa(n)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
