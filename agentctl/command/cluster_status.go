package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	clusterv1 "github.com/agentry/agentry/gen/agentry/cluster/v1"
)

// clusterDoc is how the control plane stands.
type clusterDoc struct {
	ClusterID  string       `json:"clusterId"`
	Epoch      uint64       `json:"epoch"`
	AnsweredBy string       `json:"answeredBy"`
	Replicas   []replicaDoc `json:"replicas"`
	Store      storeDoc     `json:"store"`
	Alarms     []string     `json:"alarms"`
}

// replicaDoc is one controlplane process.
type replicaDoc struct {
	ID            string    `json:"id"`
	Version       string    `json:"version"`
	People        string    `json:"people"`
	Runtime       string    `json:"runtime"`
	Leader        bool      `json:"leader"`
	Linked        bool      `json:"linked"`
	Started       time.Time `json:"started"`
	ViewRevision  int64     `json:"viewRevision"`
	Streams       int64     `json:"streams"`
	FleetComplete bool      `json:"fleetComplete"`
}

// storeDoc is etcd as the replica that answers sees it.
type storeDoc struct {
	Kind       string      `json:"kind"`
	Revision   int64       `json:"revision"`
	SizeBytes  int64       `json:"sizeBytes"`
	QuotaBytes int64       `json:"quotaBytes"` // 0: not known
	Fault      string      `json:"fault"`
	Members    []memberDoc `json:"members"`
}

// memberDoc is one etcd member.
type memberDoc struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	ClientURLs []string `json:"clientUrls"`
	PeerURLs   []string `json:"peerUrls"`
	Leader     bool     `json:"leader"`
	Learner    bool     `json:"learner"`
	Version    string   `json:"version"`
	SizeBytes  int64    `json:"sizeBytes"`
	Revision   int64    `json:"revision"`
	RaftIndex  uint64   `json:"raftIndex"`
	Fault      string   `json:"fault"`
	Alarms     []string `json:"alarms"`
}

func (c *cli) clusterStatusCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "status", Short: "The replicas and the store; what needs a person is on standard error",
		Long: "The replicas and the store, as the replica that answers sees them; it needs no quorum. What needs a person is told on standard error and\n" +
			"in the JSON's alarms; the exit code is 0 all the same.",
		Example: "  agentctl cluster status\n  agentctl cluster status -o jsonpath='{.alarms}'", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.clusterState(cmd.Context(), &out)
			if err != nil {
				return err
			}
			t := table{head: []string{"REPLICA", "LEADER", "HEARD", "STREAMS", "FLEET", "REVISION", "STARTED", "VERSION", "PEOPLE", "RUNTIME"}, from: 7}
			for _, r := range d.Replicas {
				t.add("replica/"+r.ID, r.ID, mark(r.Leader), yesNo(r.Linked), itoa(r.Streams), ifElse(r.FleetComplete, "known", "learning"), itoa(r.ViewRevision),
					c.ago(r.Started), dash(r.Version), dash(r.People), dash(r.Runtime))
			}
			if !out.machine() && out != "name" && !c.flags.quiet {
				_, _ = fmt.Fprintf(c.env.Stdout, "cluster %s, epoch %d, as replica %s sees it\n%s\n\n", d.ClusterID, d.Epoch, d.AnsweredBy, d.Store)
			}
			if err := c.print(out, d, t); err != nil {
				return err
			}
			return c.alarms(d)
		},
	}
	out.bind(cmd)
	return cmd
}

func (c *cli) clusterMembersCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "members", Short: "The members of the store, each asked by itself", Example: "  agentctl cluster members\n  agentctl cluster members -o json", Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := c.clusterState(cmd.Context(), &out)
			if err != nil {
				return err
			}
			t := table{head: []string{"NAME", "LEADER", "SIZE", "REVISION", "RAFT", "VERSION", "STATE", "ID", "CLIENTS", "PEERS"}, from: 7, empty: "No member is known."}
			for _, m := range d.Store.Members {
				t.add("member/"+first(m.Name, m.ID), dash(m.Name), mark(m.Leader), size(m.SizeBytes), number(m.Revision), number(int64(m.RaftIndex)), dash(m.Version), m.state(), //nolint:gosec // G115: far below the bound
					m.ID, dash(strings.Join(m.ClientURLs, ",")), dash(strings.Join(m.PeerURLs, ",")))
			}
			if err := c.print(out, d.Store.Members, t); err != nil {
				return err
			}
			return c.alarms(d)
		},
	}
	out.bind(cmd)
	return cmd
}

// clusterState asks how the control plane stands.
func (c *cli) clusterState(ctx context.Context, out *output) (clusterDoc, error) {
	if err := out.check(); err != nil {
		return clusterDoc{}, err
	}
	cl, err := c.connect()
	if err != nil {
		return clusterDoc{}, err
	}
	resp, err := cl.cluster.GetCluster(ctx, connect.NewRequest(&clusterv1.GetClusterRequest{}))
	if err != nil {
		return clusterDoc{}, err
	}
	return toCluster(resp.Msg), nil
}

// alarms says on standard error what needs a person.
func (c *cli) alarms(d clusterDoc) error {
	for _, a := range d.Alarms {
		if _, err := fmt.Fprintf(c.env.Stderr, "alarm: %s\n", lines(a)); err != nil {
			return err
		}
	}
	return nil
}

func toCluster(m *clusterv1.GetClusterResponse) clusterDoc {
	s := m.GetStore()
	d := clusterDoc{
		ClusterID: m.GetClusterId(), Epoch: m.GetEpoch(), AnsweredBy: m.GetAnsweredBy(), Replicas: []replicaDoc{}, Alarms: orEmpty(m.GetAlarms()),
		Store: storeDoc{
			Kind: s.GetKind(), Revision: s.GetRevision(), SizeBytes: s.GetSizeBytes(), QuotaBytes: s.GetQuotaBytes(), Fault: s.GetFault(), Members: []memberDoc{},
		},
	}
	for _, r := range m.GetReplicas() {
		d.Replicas = append(d.Replicas, replicaDoc{
			ID: r.GetId(), Version: r.GetVersion(), People: r.GetPeopleAddress(), Runtime: r.GetRuntimeAddress(), Leader: r.GetLeader(), Linked: r.GetLinked(),
			Started: timeOf(r.GetStarted()), ViewRevision: r.GetViewRevision(), Streams: r.GetStreams(), FleetComplete: r.GetFleetComplete(),
		})
	}
	for _, e := range s.GetMembers() {
		d.Store.Members = append(d.Store.Members, memberDoc{
			ID: e.GetId(), Name: e.GetName(), ClientURLs: orEmpty(e.GetClientUrls()), PeerURLs: orEmpty(e.GetPeerUrls()), Leader: e.GetLeader(),
			Learner: e.GetLearner(), Version: e.GetVersion(), SizeBytes: e.GetSizeBytes(), Revision: e.GetRevision(), RaftIndex: e.GetRaftIndex(),
			Fault: e.GetFault(), Alarms: orEmpty(e.GetAlarms()),
		})
	}
	return d
}

// String is the store in one line.
func (s storeDoc) String() string {
	there := 0
	for _, m := range s.Members {
		if m.Fault == "" {
			there++
		}
	}
	text := fmt.Sprintf("store: %s, revision %d, %d of %d members answer, %s", s.Kind, s.Revision, there, len(s.Members), size(s.SizeBytes))
	if s.QuotaBytes > 0 {
		text += " of " + size(s.QuotaBytes)
	}
	if s.Fault != "" {
		text += "; it takes no requests"
	}
	return text
}

// state is a member's in one word, or why it doesn't answer.
func (m memberDoc) state() string {
	switch {
	case m.Fault != "":
		return m.Fault
	case len(m.Alarms) > 0:
		return strings.Join(m.Alarms, ",")
	case m.Learner:
		return "learner"
	default:
		return "ok"
	}
}

// size is a number of bytes as people read it; "-": not known.
func size(n int64) string {
	const step = 1024
	switch {
	case n <= 0:
		return "-"
	case n < step*step:
		return fmt.Sprintf("%d KiB", (n+step-1)/step)
	case n < step*step*step:
		return fmt.Sprintf("%.1f MiB", float64(n)/(step*step))
	default:
		return fmt.Sprintf("%.1f GiB", float64(n)/(step*step*step))
	}
}

// number is a number; "-": not known.
func number(n int64) string {
	if n == 0 {
		return "-"
	}
	return itoa(n)
}

func mark(on bool) string { return ifElse(on, "*", "") }

func yesNo(on bool) string { return ifElse(on, "yes", "no") }

func ifElse(on bool, yes, no string) string {
	if on {
		return yes
	}
	return no
}

func orEmpty(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}
