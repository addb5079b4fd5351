package herd

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// member is one simulated instance.
type member struct {
	group     *group
	agent, id string

	// The member's goroutine's own.
	target  int // which of the targets is next
	running *pushv1.Token
	content []byte // the newest

	// Guarded by the group's mutex.
	confirmed   bool
	confirmedAt time.Duration
	appliedAt   time.Duration
	generation  int64
	snapshots   int
	bytes       int64
	goodbyes    int
}

// The bounds of agentd's reconnects.
const (
	connectMin = 200 * time.Millisecond
	connectMax = 30 * time.Second
)

func (m *member) run(ctx context.Context) {
	for ceiling := connectMin; ctx.Err() == nil; ceiling = min(2*ceiling, connectMax) {
		after, answered := m.session(ctx)
		m.group.note(func() { m.confirmed = false })
		if answered {
			ceiling = connectMin
		}
		select {
		case <-ctx.Done():
		case <-time.After(max(after, rand.N(ceiling))): //nolint:gosec // spreads load
		}
	}
}

// session is one stream.
func (m *member) session(ctx context.Context) (after time.Duration, answered bool) {
	targets := m.group.cfg.Targets
	target := targets[m.target%len(targets)]
	m.target++
	conn, err := grpc.NewClient("passthrough:///"+target, grpc.WithTransportCredentials(m.group.creds[m.agent]),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10), grpc.WithDisableServiceConfig())
	if err != nil {
		return 0, false
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pushv1.NewConfigServiceClient(conn).Stream(ctx)
	if err != nil {
		return 0, false
	}
	hello := &pushv1.Hello{Namespace: "default", Agent: m.agent, Instance: m.id, AgentdVersion: "herd", Running: m.running, Held: m.held()}
	if m.running != nil {
		hello.Phase = pushv1.Phase_PHASE_APPLIED
	}
	// A goodbye may be there already; then Recv has it, not Send.
	_ = stream.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: hello}})
	for {
		in, err := stream.Recv()
		if err != nil {
			return 0, answered
		}
		if g := in.GetGoaway(); g != nil {
			m.group.note(func() { m.goodbyes++ })
			return g.GetRetryAfter().AsDuration(), answered
		}
		out := m.hear(in)
		if out == nil {
			continue
		}
		if err := stream.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: out}}); err != nil {
			return 0, answered
		}
		answered = true
		now := Now()
		m.group.note(func() {
			if !m.confirmed {
				m.confirmed, m.confirmedAt = true, now
			}
			m.generation = m.running.GetGeneration()
			if in.GetSnapshot() != nil {
				m.appliedAt = now
				m.snapshots++
				m.bytes += int64(len(in.GetSnapshot().GetContent()))
			}
		})
	}
}

// hear gives the answer to a message; nil: none is due.
func (m *member) hear(in *pushv1.StreamResponse) *pushv1.Report {
	switch in := in.GetMessage().(type) {
	case *pushv1.StreamResponse_Snapshot:
		m.running, m.content = in.Snapshot.GetToken(), in.Snapshot.GetContent()
		return m.applied(in.Snapshot.GetNonce())
	case *pushv1.StreamResponse_Current:
		m.running = in.Current.GetToken()
		return m.applied(in.Current.GetNonce())
	case *pushv1.StreamResponse_Absent:
		return m.applied(in.Absent.GetNonce())
	case *pushv1.StreamResponse_Command:
		return m.applied(in.Command.GetNonce())
	default:
		return nil
	}
}

func (m *member) applied(nonce uint64) *pushv1.Report {
	return &pushv1.Report{Nonce: nonce, Phase: pushv1.Phase_PHASE_APPLIED, Desired: m.running, Running: m.running}
}

// held lists what the instance holds: the manifest of the newest content.
func (m *member) held() []*pushv1.ManifestLine {
	var c pushv1.Content
	if err := proto.Unmarshal(m.content, &c); err != nil {
		return nil
	}
	return c.GetManifest()
}
