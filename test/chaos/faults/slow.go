package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/test/chaos/world"
)

// Readers are the faults of instances that are slower than what they are sent.
func Readers() []world.Fault { return []world.Fault{slowReaders{}} }

const (
	slowAgent   = "slow"
	slowStreams = 10
	slowPause   = 5 * time.Second // between two messages that one of them reads
	slowPrompt  = 120 << 10       // bytes: more than the stream's window
	slowUpdates = 8
)

// slowReaders opens streams of an agent of its own that take one message in five seconds, and updates that agent with large prompts.
// Nobody else may notice; the suite watches the memory of the control planes and the time of everybody's updates.
type slowReaders struct{}

// Name implements world.Fault.
func (slowReaders) Name() string { return "slow-readers" }

// Needs implements world.Fault.
func (slowReaders) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (slowReaders) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	plane, take := pick(r, w.Planes), r.IntN(1_000_000)*slowUpdates
	var door *world.Door
	for _, d := range w.Doors() {
		if d.Node == plane {
			door = d
		}
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	var read atomic.Int64
	heal := func(ctx context.Context) error {
		stop()
		wg.Wait()
		_, err := door.Spec.Delete(ctx, connect.NewRequest(&specv1.DeleteRequest{Kind: "agent", Name: slowAgent, Message: fmt.Sprintf("slow readers are gone, %d", time.Now().UnixNano())}))
		return err
	}
	fail := func(err error) (world.Injected, error) { return world.Injected{}, errors.Join(err, heal(ctx)) }
	if err := applied(ctx, door, large(take)); err != nil {
		return fail(err)
	}
	for i := range slowStreams {
		conn, stream, err := openSlow(life, plane, fmt.Sprintf("%s-%d", slowAgent, i))
		if err != nil {
			return fail(err)
		}
		wg.Go(func() {
			defer func() { _ = conn.Close() }()
			for {
				if _, err := stream.Recv(); err != nil {
					return
				}
				read.Add(1)
				select {
				case <-life.Done():
					return
				case <-time.After(slowPause):
				}
			}
		})
	}
	for i := 1; i < slowUpdates; i++ {
		if err := applied(ctx, door, large(take+i)); err != nil {
			return fail(err)
		}
	}
	hold := slowPause + between(r, time.Second, 3*time.Second)
	return world.Injected{
		What: fmt.Sprintf("%d streams at %s take a message in %s, for %s", slowStreams, plane.Name, slowPause, hold), Hold: hold,
		Heal: heal, Fired: func() (int64, error) { return read.Load(), nil },
	}, nil
}

// openSlow opens a stream whose messages nobody reads yet.
func openSlow(ctx context.Context, plane *world.Node, instance string) (*grpc.ClientConn, pushv1.ConfigService_StreamClient, error) {
	tls, err := people(plane).InstanceTLS(ctx, "default", slowAgent, instance)
	if err != nil {
		return nil, nil, err
	}
	conn, err := grpc.NewClient(plane.Peer, grpc.WithTransportCredentials(credentials.NewTLS(tls)))
	if err != nil {
		return nil, nil, err
	}
	stream, err := pushv1.NewConfigServiceClient(conn).Stream(ctx)
	if err == nil {
		err = stream.Send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: &pushv1.Hello{
			Namespace: "default", Agent: slowAgent, Instance: instance, AgentdVersion: "chaos",
		}}})
	}
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, stream, nil
}

// large is the slow agent with a prompt that is longer than what a stream takes at once.
func large(take int) *specv1.ApplyRequest {
	prompt := fmt.Sprintf("%s-%d", slowAgent, take/slowUpdates)
	return &specv1.ApplyRequest{Files: listed(map[string]string{
		slowAgent + "/agent-base.json": fmt.Sprintf(`{"promptKey": %q, "description": "take %d"}`, prompt, take),
		slowAgent + "/model.json":      `{"model": "scripted"}`,
		"prompts/" + prompt + ".json": fmt.Sprintf(`{"promptKey": %q, "version": "1.0.%d", "template": %q}`,
			prompt, take%slowUpdates, fmt.Sprintf("%d %s", take, strings.Repeat("x", slowPrompt))),
	})}
}

var _ world.Fault = slowReaders{}
