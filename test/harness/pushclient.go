package harness

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// PushClient is a raw client of the push stream: it does what a test tells it, nothing by itself.
type PushClient struct {
	conn   *grpc.ClientConn
	stream pushv1.ConfigService_StreamClient
	cancel context.CancelFunc
	recv   chan received
}

type received struct {
	msg *pushv1.StreamResponse
	err error
}

// DialPush opens a stream as the instance that hello names, and sends hello.
func (c *ControlPlane) DialPush(ctx context.Context, hello *pushv1.Hello) (*PushClient, error) {
	cfg, err := c.InstanceTLS(ctx, hello.GetNamespace(), hello.GetAgent(), hello.GetInstance())
	if err != nil {
		return nil, err
	}
	return c.DialPushAs(ctx, cfg, hello)
}

// DialPushAs is DialPush with settings of one's own.
func (c *ControlPlane) DialPushAs(ctx context.Context, cfg *tls.Config, hello *pushv1.Hello) (*PushClient, error) {
	conn, err := grpc.NewClient(c.Runtime, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := pushv1.NewConfigServiceClient(conn).Stream(ctx)
	if err != nil {
		cancel()
		_ = conn.Close()
		return nil, err
	}
	p := &PushClient{conn: conn, stream: stream, cancel: cancel, recv: make(chan received, 256)}
	go func() {
		for {
			m, err := stream.Recv()
			p.recv <- received{m, err}
			if err != nil {
				return
			}
		}
	}()
	return p, p.stream.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: hello}})
}

// Close ends the stream.
func (p *PushClient) Close() {
	p.cancel()
	_ = p.conn.Close()
}

// Report sends a report.
func (p *PushClient) Report(r *pushv1.Report) error {
	return p.stream.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: r}})
}

// Next answers the next message, or an error after d.
func (p *PushClient) Next(d time.Duration) (*pushv1.StreamResponse, error) {
	select {
	case r := <-p.recv:
		return r.msg, r.err
	case <-time.After(d):
		return nil, fmt.Errorf("no message within %s", d)
	}
}

// NextSnapshot answers the next Snapshot with its content, passing over Welcome, Overlay and Endpoints.
func (p *PushClient) NextSnapshot(d time.Duration) (*pushv1.Snapshot, *pushv1.Content, error) {
	for {
		m, err := p.Next(d)
		if err != nil {
			return nil, nil, err
		}
		if s := m.GetSnapshot(); s != nil {
			content := &pushv1.Content{}
			return s, content, proto.Unmarshal(s.GetContent(), content)
		}
		if m.GetWelcome() == nil && m.GetOverlay() == nil && m.GetEndpoints() == nil {
			return nil, nil, fmt.Errorf("got %T, want a snapshot", m.GetMessage())
		}
	}
}

// Collect answers every message of the next d.
func (p *PushClient) Collect(d time.Duration) []*pushv1.StreamResponse {
	var out []*pushv1.StreamResponse
	end := time.After(d)
	for {
		select {
		case r := <-p.recv:
			if r.err != nil {
				return out
			}
			out = append(out, r.msg)
		case <-end:
			return out
		}
	}
}

// Send sends any message.
func (p *PushClient) Send(r *pushv1.StreamRequest) error { return p.stream.Send(r) }

// Beat sends a sign of life.
func (p *PushClient) Beat(b *pushv1.Beat) error {
	return p.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Beat{Beat: b}})
}
