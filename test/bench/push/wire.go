package main

import (
	"context"
	"fmt"
	"slices"
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
		if err := m.away(ctx, after); err != nil {
			return err
		}
	}
}

// away waits. The connection is kept for the next stream, unless it breaks meanwhile.
func (m *member) away(ctx context.Context, d time.Duration) error {
	until := time.Now().Add(d)
	if m.conn.Idle(d) == nil {
		return nil
	}
	m.hangUp()
	return pause(ctx, time.Until(until))
}

// session is one stream; without an error it ended with a goodbye. Once it is open, the connection with its handshake is.
func (m *member) session(ctx context.Context, started chan<- error) (after time.Duration, err error) {
	hello, err := m.hello()
	if err == nil {
		err = m.call(ctx, hello)
	}
	select {
	case started <- err:
	default: // not the first one
	}
	if err != nil {
		return 0, err
	}
	first := m.agent != refuserAgent
	for {
		b, err := m.conn.Recv()
		if err != nil {
			return 0, err
		}
		in, err := readOffer(b)
		if err != nil {
			return 0, err
		}
		if in.kind == offerGoaway {
			g := &pushv1.Goaway{}
			err := proto.Unmarshal(in.body, g)
			return g.GetRetryAfter().AsDuration(), err
		}
		m.crowd.arrivals.Add(1)
		out, version, err := m.hear(in)
		if err != nil {
			return 0, err
		}
		if len(out) == 0 {
			continue
		}
		err = m.conn.Send(out)
		if version != nil {
			m.acked(version)
		}
		if first {
			first = false
			m.crowd.answered()
		}
		if err != nil {
			return 0, err
		}
	}
}

// hello gives the first message of a stream.
func (m *member) hello() ([]byte, error) {
	held := &pushv1.Content{}
	if err := proto.Unmarshal(m.last, held); err != nil {
		return nil, err
	}
	running, err := m.token(m.running)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: &pushv1.Hello{
		Namespace: "default", Agent: m.agent, Instance: fmt.Sprintf("instance-%05d", m.index), AgentdVersion: "bench",
		Running: running, Held: held.GetManifest(),
	}}})
}

// token decodes a token; nil stays nil.
func (m *member) token(b []byte) (*pushv1.Token, error) {
	if b == nil {
		return nil, nil //nolint:nilnil // an instance that runs nothing
	}
	t := &pushv1.Token{}
	return t, proto.Unmarshal(b, t)
}

// hear gives the answer to an offer, which is good until the next one, and the version that it acknowledges.
func (m *member) hear(in offer) (out, version []byte, err error) {
	switch in.kind {
	case offerSnapshot:
		m.received(len(in.content))
		if m.refusesThis(in.hash) {
			out, err = m.refusal(in)
			return out, nil, err
		}
		m.runs(in.token)
		m.last = append(m.last[:0], in.content...) // what a reconnect needs of it is decoded then
		if m.first == nil && m.index == 0 {
			m.first = slices.Clone(m.last)
		}
		m.out = appendApplied(m.out[:0], in.nonce, m.running)
		return m.out, in.hash, nil
	case offerCurrent:
		m.runs(in.token)
		m.out = appendApplied(m.out[:0], in.nonce, m.running)
		return m.out, nil, nil
	case offerAbsent:
		m.out = appendApplied(m.out[:0], in.nonce, nil)
		return m.out, nil, nil
	default:
		return nil, nil, nil
	}
}

// runs keeps a copy of the token of what runs.
func (m *member) runs(token []byte) {
	if token == nil {
		m.running = nil
		return
	}
	m.running = append(m.running[:0], token...)
}

func (m *member) refusal(in offer) ([]byte, error) {
	desired, err := m.token(in.token)
	if err != nil {
		return nil, err
	}
	running, err := m.token(m.running)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: &pushv1.Report{
		Nonce: in.nonce, Phase: pushv1.Phase_PHASE_REJECTED, Desired: desired, Running: running,
		Faults: []*pushv1.Fault{{Resource: "prompt/" + refuserAgent, Code: "invalid", Message: "refused by the bench", Severity: pushv1.Severity_SEVERITY_ERROR}},
	}}})
}

// refusesThis reports whether the refuser refuses a version: the first new one since it was told to refuse.
func (m *member) refusesThis(version []byte) bool {
	if m.agent != refuserAgent || !m.crowd.refusing.Load() {
		return false
	}
	if m.refuses == "" && string(version) != string(m.version) {
		m.refuses = string(version)
	}
	if string(version) != m.refuses {
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
	node := &core.Node{Id: fmt.Sprintf("instance-%05d", m.index), Cluster: m.agent}
	hello, err := proto.Marshal(&discovery.DiscoveryRequest{Node: node, TypeUrl: xdsType, VersionInfo: string(m.version)})
	if err == nil {
		err = m.call(ctx, hello)
	}
	started <- err
	first := m.agent != refuserAgent
	for err == nil {
		var b []byte
		if b, err = m.conn.Recv(); err != nil {
			return err
		}
		m.crowd.arrivals.Add(1)
		in, err := readResponse(b)
		if err != nil {
			return err
		}
		m.received(in.bytes)
		if m.refusesThis(in.version) {
			nack, err := proto.Marshal(&discovery.DiscoveryRequest{
				TypeUrl: xdsType, VersionInfo: string(m.version), ResponseNonce: string(in.nonce),
				ErrorDetail: &status.Status{Code: int32(codes.InvalidArgument), Message: "refused by the bench"},
			})
			if err == nil {
				err = m.conn.Send(nack)
			}
			if err != nil {
				return err
			}
			continue
		}
		m.out = appendACK(m.out[:0], in.version, in.nonce)
		err = m.conn.Send(m.out)
		m.acked(in.version)
		if first {
			first = false
			m.crowd.answered()
		}
		if err != nil {
			return err
		}
	}
	return err
}
