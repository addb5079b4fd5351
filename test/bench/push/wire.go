package main

import (
	"context"
	"fmt"
	"time"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// runPush is an instance of ours: it acknowledges every snapshot with APPLIED at once, and comes back when it is told to.
func (m *member) runPush(ctx context.Context, started chan<- error) error {
	for {
		after, err := m.session(ctx, started)
		if err != nil {
			return err
		}
		if err := pause(ctx, after); err != nil {
			return err
		}
	}
}

// session is one stream; without an error it ended with a goodbye. Once it is open, the connection with its handshake is.
func (m *member) session(ctx context.Context, started chan<- error) (after time.Duration, err error) {
	held := &pushv1.Content{}
	if err := proto.Unmarshal(m.last, held); err != nil {
		return 0, err
	}
	stream, err := pushv1.NewConfigServiceClient(m.conn).Stream(ctx)
	select {
	case started <- err:
	default: // not the first one
	}
	if err != nil {
		return 0, err
	}
	// A goodbye may be there already; then Recv has it, not Send.
	_ = stream.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: &pushv1.Hello{
		Namespace: "default", Agent: m.agent, Instance: fmt.Sprintf("instance-%05d", m.index), AgentdVersion: "bench",
		Running: m.running, Held: held.GetManifest(),
	}}})
	first := m.agent != refuserAgent
	for err == nil {
		var in *pushv1.StreamResponse
		if in, err = stream.Recv(); err != nil {
			return 0, err
		}
		if g := in.GetGoaway(); g != nil {
			return g.GetRetryAfter().AsDuration(), nil
		}
		m.crowd.arrivals.Add(1)
		out, version := m.hear(in)
		if out == nil {
			continue
		}
		err = stream.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: out}})
		if version != "" {
			m.acked(version)
		}
		if first {
			first = false
			m.crowd.answered()
		}
	}
	return 0, err
}

// hear gives the answer to a message and the version that it acknowledges.
func (m *member) hear(in *pushv1.StreamResponse) (out *pushv1.Report, version string) {
	switch in := in.GetMessage().(type) {
	case *pushv1.StreamResponse_Snapshot:
		s := in.Snapshot
		m.received(len(s.GetContent()))
		if m.refusesThis(string(s.GetToken().GetHash())) {
			return &pushv1.Report{
				Nonce: s.GetNonce(), Phase: pushv1.Phase_PHASE_REJECTED, Desired: s.GetToken(), Running: m.running,
				Faults: []*pushv1.Fault{{Resource: "prompt/" + refuserAgent, Code: "invalid", Message: "refused by the bench", Severity: pushv1.Severity_SEVERITY_ERROR}},
			}, ""
		}
		m.running = s.GetToken()
		m.last = s.GetContent() // what a reconnect needs of it is decoded then
		if m.first == nil && m.index == 0 {
			m.first = m.last
		}
		return &pushv1.Report{Nonce: s.GetNonce(), Phase: pushv1.Phase_PHASE_APPLIED, Desired: m.running, Running: m.running}, string(m.running.GetHash())
	case *pushv1.StreamResponse_Current:
		m.running = in.Current.GetToken()
		return &pushv1.Report{Nonce: in.Current.GetNonce(), Phase: pushv1.Phase_PHASE_APPLIED, Desired: m.running, Running: m.running}, ""
	case *pushv1.StreamResponse_Absent:
		return &pushv1.Report{Nonce: in.Absent.GetNonce(), Phase: pushv1.Phase_PHASE_APPLIED}, ""
	default:
		return nil, ""
	}
}

// refusesThis reports whether the refuser refuses a version: the first new one since it was told to refuse.
func (m *member) refusesThis(version string) bool {
	if m.agent != refuserAgent || !m.crowd.refusing.Load() {
		return false
	}
	if m.refuses == "" && version != m.version {
		m.refuses = version
	}
	if version != m.refuses {
		return false
	}
	m.crowd.refused.Add(1)
	return true
}

// received counts content. The refuser's isn't: on a reconnect it is due what it refused, or nothing.
func (m *member) received(bytes int) {
	if m.agent != refuserAgent {
		m.crowd.contents.Add(int64(bytes))
	}
}

// runXDS is an Envoy-like client of the aggregated service: one type, state of the world, an ACK for every response.
func (m *member) runXDS(ctx context.Context, started chan<- error) error {
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(m.conn).StreamAggregatedResources(ctx)
	node := &core.Node{Id: fmt.Sprintf("instance-%05d", m.index), Cluster: m.agent}
	if err == nil {
		err = stream.Send(&discovery.DiscoveryRequest{Node: node, TypeUrl: xdsType, VersionInfo: m.version})
	}
	started <- err
	first := m.agent != refuserAgent
	for err == nil {
		var in *discovery.DiscoveryResponse
		if in, err = stream.Recv(); err != nil {
			return err
		}
		m.crowd.arrivals.Add(1)
		for _, r := range in.GetResources() {
			m.received(len(r.GetValue()))
		}
		out := &discovery.DiscoveryRequest{TypeUrl: xdsType, VersionInfo: in.GetVersionInfo(), ResponseNonce: in.GetNonce()}
		if m.refusesThis(in.GetVersionInfo()) {
			out.VersionInfo = m.version
			out.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: "refused by the bench"}
			err = stream.Send(out)
			continue
		}
		err = stream.Send(out)
		m.acked(in.GetVersionInfo())
		if first {
			first = false
			m.crowd.answered()
		}
	}
	return err
}
