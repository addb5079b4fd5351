package main

import (
	"crypto/sha256"
	"sync"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"google.golang.org/grpc"
)

// yardstick is the least that a push server does: it keeps one snapshot for each agent and sends it to every stream of the agent.
// It stores nothing, knows no instance and judges no answer. It is the measure of what the transport costs.
type yardstick struct {
	pushv1.UnimplementedConfigServiceServer

	mu     sync.Mutex // guards all
	agents map[string]*group
}

type group struct {
	snapshot *pushv1.Snapshot
	wakes    map[chan struct{}]struct{}
}

// publish replaces an agent's content and wakes its streams.
func (y *yardstick) publish(agent string, content []byte, generation int64) {
	hash := sha256.Sum256(content)
	y.mu.Lock()
	defer y.mu.Unlock()
	g := y.group(agent)
	g.snapshot = &pushv1.Snapshot{Token: &pushv1.Token{Epoch: 1, Generation: generation, Hash: hash[:]}, Revision: 1, Content: content}
	for w := range g.wakes {
		select {
		case w <- struct{}{}:
		default: // awake already
		}
	}
}

func (y *yardstick) group(agent string) *group {
	if y.agents[agent] == nil {
		y.agents[agent] = &group{wakes: map[chan struct{}]struct{}{}}
	}
	return y.agents[agent]
}

// Stream serves one instance.
func (y *yardstick) Stream(s grpc.BidiStreamingServer[pushv1.StreamRequest, pushv1.StreamResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	wake := make(chan struct{}, 1)
	wake <- struct{}{}
	y.mu.Lock()
	g := y.group(first.GetHello().GetAgent())
	g.wakes[wake] = struct{}{}
	y.mu.Unlock()
	defer func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		delete(g.wakes, wake)
	}()
	go func() { // answers
		for {
			if _, err := s.Recv(); err != nil {
				return
			}
		}
	}()
	has := string(first.GetHello().GetRunning().GetHash())
	for nonce := uint64(1); ; nonce++ {
		select {
		case <-s.Context().Done():
			return s.Context().Err()
		case <-wake:
		}
		y.mu.Lock()
		last := g.snapshot
		y.mu.Unlock()
		m := &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Current{Current: &pushv1.Current{Nonce: nonce, Token: last.GetToken()}}}
		if string(last.GetToken().GetHash()) != has {
			m.Message = &pushv1.StreamResponse_Snapshot{Snapshot: &pushv1.Snapshot{
				Nonce: nonce, Token: last.GetToken(), Revision: last.GetRevision(), Content: last.GetContent(),
			}}
		}
		has = string(last.GetToken().GetHash())
		if err := s.Send(m); err != nil {
			return err
		}
	}
}
