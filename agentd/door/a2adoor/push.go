package a2adoor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/a2a/v03"
	"github.com/agentry/agentry/internal/egress"
)

// The bounds of push notifications.
const (
	pushAttempts = 4
	pushBackoff  = 500 * time.Millisecond // doubled each time, with jitter
	pushTimeout  = 10 * time.Second       // of one attempt
	pushAtOnce   = 32                     // posts under way
	maxQueues    = 1024                   // configs with something to tell
	maxQueued    = 64                     // notifications of one config that wait
	maxPushBytes = 16 << 20               // of one config's notifications, which wait or are under way; a single one may be larger
	maxAllBytes  = 64 << 20               // of all notifications
)

// pusher tells addresses of the changes of tasks, those of one task and address in order. What can't be delivered is dropped and logged: a
// task never waits for it.
type pusher struct {
	client *http.Client
	guard  *egress.Guard // judges addresses by what they say themselves, asking no resolver
	log    *slog.Logger
	slots  chan struct{}
	life   context.Context //nolint:containedctx // of everything that it sends, ended by close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	queues map[queueKey]*queue
	bytes  int // of all queues
	closed bool
}

type queueKey struct {
	ref task.Ref
	id  string
}

type queue struct {
	to      task.Push
	waiting [][]byte
	bytes   int // of what waits and of what is under way
	flying  int // of what is under way
	dropped int
}

func newPusher(guard *egress.Guard, log *slog.Logger) *pusher {
	client := guard.HTTPClient()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // its credentials are for that address only
	ctx, cancel := context.WithCancel(context.Background())
	nowhere := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no look-up") }}
	return &pusher{
		client: client, guard: egress.New(egress.Config{Policy: guard.Policy(), Resolver: nowhere}), log: log,
		slots: make(chan struct{}, pushAtOnce), life: ctx, cancel: cancel, queues: map[queueKey]*queue{},
	}
}

// check refuses addresses that say themselves that they are internal.
func (p *pusher) check(url string) error { return p.guard.CheckURL(context.Background(), url) }

// changed tells what happened to a task: each new status, and before a final one the task's artifacts, whole.
func (p *pusher) changed(rec task.Record, events []task.Event) {
	if len(rec.Push) == 0 {
		return
	}
	var payloads, legacy [][]byte
	add := func(m *pb.StreamResponse) {
		if b, err := a2a.Marshal(m); err == nil {
			payloads = append(payloads, b)
		}
	}
	for _, e := range events {
		if e.Status == nil {
			continue
		}
		if e.Status.State.Terminal() {
			for _, a := range rec.Task.Artifacts {
				add(wireEvent(task.Event{Chunk: &task.Chunk{Artifact: a, Last: true}}, rec.Task.ID, rec.Task.ContextID))
			}
		}
		add(wireEvent(e, rec.Task.ID, rec.Task.ContextID))
	}
	if len(payloads) > 0 && slices.ContainsFunc(rec.Push, func(to task.Push) bool { return to.Legacy }) {
		if b, err := v03.WriteTask(wireTask(rec.Task, whole())); err == nil { // 0.3 tells the task as it is, once
			legacy = append(legacy, b)
		}
	}
	for _, to := range rec.Push {
		if to.Legacy {
			p.enqueue(rec.Ref(), to, legacy)
		} else {
			p.enqueue(rec.Ref(), to, payloads)
		}
	}
}

// enqueue adds to a queue. Where it is full, by number or bytes, what waits longest goes; so it does where all
// queues together are, or what is new goes where that would not help.
func (p *pusher) enqueue(ref task.Ref, to task.Push, payloads [][]byte) {
	if len(payloads) == 0 {
		return
	}
	key := queueKey{ref: ref, id: to.ID}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	q := p.queues[key]
	if q == nil {
		if len(p.queues) >= maxQueues {
			p.log.LogAttrs(context.Background(), slog.LevelWarn, "a push notification was dropped: too many wait", slog.String("task", ref.ID))
			return
		}
		q = &queue{}
		p.queues[key] = q
		p.work.Go(func() { p.drain(key, q) })
	}
	q.to = to
	for _, b := range payloads {
		if !roomy(q.flying, p.bytes-(q.bytes-q.flying), len(b)) { // what is under way, or what other queues hold, leaves no room
			q.dropped++
			continue
		}
		for len(q.waiting) >= maxQueued || !roomy(q.bytes, p.bytes, len(b)) {
			p.free(q, len(p.take(q)))
			q.dropped++
		}
		q.waiting = append(q.waiting, b)
		q.bytes += len(b)
		p.bytes += len(b)
	}
}

// roomy reports whether n bytes more may be held where a queue has own and all queues have all.
func roomy(own, all, n int) bool {
	return (own == 0 || own+n <= maxPushBytes) && all+n <= maxAllBytes
}

// take takes the notification that waits longest off a queue, whose bytes still count. p.mu is held.
func (*pusher) take(q *queue) []byte {
	b := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	return b
}

// free counts bytes that are held no more. p.mu is held.
func (p *pusher) free(q *queue, bytes int) {
	q.bytes -= bytes
	p.bytes -= bytes
}

// drop forgets what a deleted config would still be told.
func (p *pusher) drop(ref task.Ref, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q := p.queues[queueKey{ref: ref, id: id}]; q != nil {
		for len(q.waiting) > 0 {
			p.free(q, len(p.take(q)))
		}
	}
}

// drain delivers what is in a queue until nothing is.
func (p *pusher) drain(key queueKey, q *queue) {
	for {
		p.mu.Lock()
		if len(q.waiting) == 0 {
			delete(p.queues, key)
			dropped := q.dropped
			p.mu.Unlock()
			if dropped > 0 {
				p.log.LogAttrs(context.Background(), slog.LevelWarn, "push notifications were dropped", slog.String("task", key.ref.ID), slog.Int("count", dropped))
			}
			return
		}
		next, to := p.take(q), q.to
		q.flying = len(next)
		p.mu.Unlock()
		err := p.deliver(to, next)
		p.mu.Lock()
		p.free(q, len(next))
		q.flying = 0
		p.mu.Unlock()
		if err != nil {
			p.log.LogAttrs(context.Background(), slog.LevelWarn, "a push notification was not delivered", slog.String("task", key.ref.ID), slog.String("config", key.id), slog.String("error", err.Error()))
			p.drop(key.ref, key.id) // an address that four attempts don't reach is not asked again for each thing that waits
		}
	}
}

// deliver posts one notification, again and again for a while.
func (p *pusher) deliver(to task.Push, payload []byte) error {
	backoff := pushBackoff
	var err error
	for attempt := range pushAttempts {
		if attempt > 0 {
			half := backoff / 2
			timer := time.NewTimer(half + rand.N(half)) // #nosec G404 -- jitter
			select {
			case <-timer.C:
			case <-p.life.Done():
				timer.Stop()
				return err
			}
			backoff *= 2
		}
		var again bool
		if again, err = p.post(to, payload); err == nil || !again {
			return err
		}
	}
	return err
}

// post tries once; again says whether another try may help.
func (p *pusher) post(to task.Push, payload []byte) (again bool, err error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-p.life.Done():
		return false, errClosing
	}
	ctx, cancel := context.WithTimeout(p.life, pushTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(payload))
	if err != nil {
		return false, errors.New("the address can't be used")
	}
	if to.Legacy {
		req.Header.Set("Content-Type", a2a.MediaJSON)
	} else {
		req.Header.Set("Content-Type", a2a.MediaA2A)
		req.Header.Set(a2a.HeaderVersion, a2a.Version)
	}
	if to.Scheme != "" {
		req.Header.Set("Authorization", to.Scheme+" "+to.Credentials)
	}
	if to.Token != "" {
		req.Header.Set(a2a.HeaderToken, to.Token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		var denied *egress.DeniedError
		again = !errors.As(err, &denied)
		var told *url.Error
		if errors.As(err, &told) {
			err = told.Err // without the address, which may hold a secret
		}
		return again, err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	_ = resp.Body.Close()
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return false, nil
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout:
		return true, fmt.Errorf("the address answered %s", resp.Status)
	default:
		return false, fmt.Errorf("the address answered %s", resp.Status)
	}
}

// close delivers what waits until ctx ends, and drops the rest.
func (p *pusher) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	p.work.Wait()
	p.cancel()
	p.client.CloseIdleConnections()
	return nil
}
