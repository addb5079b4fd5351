// Package world is the topology that the fault suite runs: etcd members, control planes and agents as real processes, a scripted model
// server and stub MCP servers in the suite's own, and the handles by which faults touch them.
package world

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	"github.com/agentry/agentry/test/chaos/stub"
	"github.com/agentry/agentry/test/harness"
)

// World is one running topology.
type World struct {
	*harness.Env
	// Root is the module's root, for builds.
	Root string
	// EtcdBin is the etcd server's binary.
	EtcdBin string
	// Etcds, Planes and Agents are the nodes, in order. The lists never change while the world runs.
	Etcds, Planes, Agents []*Node
	// Logf tells people what happens.
	Logf func(format string, args ...any)

	// Canary is a secret that every agent is given, as a header for its tool server. It may be nowhere but where it is sent to.
	Canary string
	// Model is the scripted model server, Tools the tool servers by the name of their MCP entry.
	Model *stub.Model
	Tools map[string]*harness.MCPStub

	opts  Options
	ports ports
	etcd  *clientv3.Client
}

// Etcd is a client of all members, outside of every fault.
func (w *World) Etcd() *clientv3.Client { return w.etcd }

// Nodes gives all of them.
func (w *World) Nodes() []*Node {
	out := append([]*Node{}, w.Etcds...)
	out = append(out, w.Planes...)
	return append(out, w.Agents...)
}

// EtcdLeader finds the member that leads now.
func (w *World) EtcdLeader(ctx context.Context) (*Node, error) {
	var errs []error
	for _, n := range w.Etcds {
		if !n.Running() {
			continue
		}
		st, err := w.etcd.Status(ctx, n.URL())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if st.Leader != 0 && st.Leader == st.Header.MemberId {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no etcd member says that it leads: %w", errors.Join(errs...))
}

// PlaneLeader finds the control plane that leads: it holds the store's leader key.
func (w *World) PlaneLeader(ctx context.Context) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := w.etcd.Get(ctx, view.LeaderKey)
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, errors.New("no control plane leads")
	}
	holder := string(resp.Kvs[0].Value)
	for _, n := range w.Planes {
		id, err := n.ReplicaID(ctx)
		if err == nil && id != "" && strings.Contains(holder, id) {
			return n, nil
		}
	}
	return nil, fmt.Errorf("the leader %q is none of the running control planes", holder)
}

// ReplicaID asks a control plane for its id, which is another one after each start.
func (n *Node) ReplicaID(ctx context.Context) (string, error) {
	token, err := n.Token()
	if err != nil {
		return "", err
	}
	c := releasev1connect.NewStatusServiceClient(&http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, n.URL())
	req := connect.NewRequest(&releasev1.InfoRequest{})
	req.Header().Set("Authorization", "Bearer "+token)
	resp, err := c.Info(ctx, req)
	if err != nil {
		return "", err
	}
	return resp.Msg.GetReplicaId(), nil
}
