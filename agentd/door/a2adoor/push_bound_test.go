package a2adoor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/egress"
)

// slowHook is an address that answers when the test lets it; got are the first bytes of what came.
type slowHook struct {
	*httptest.Server

	asked chan struct{}
	let   chan struct{}
	open  func() // lets all go on
	got   chan byte
}

func newSlowHook(t *testing.T) *slowHook {
	t.Helper()
	h := &slowHook{asked: make(chan struct{}, 1000), let: make(chan struct{}), got: make(chan byte, 1000)}
	h.open = sync.OnceFunc(func() { close(h.let) })
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || len(b) == 0 {
			return
		}
		h.asked <- struct{}{}
		<-h.let
		h.got <- b[0]
	}))
	t.Cleanup(func() {
		h.open()
		h.Close()
	})
	return h
}

// told opens the hook and gives what it got in all.
func (h *slowHook) told(t *testing.T, p *pusher) []byte {
	t.Helper()
	h.open()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.close(ctx); err != nil || ctx.Err() != nil {
		t.Fatal(err, ctx.Err())
	}
	close(h.got)
	var out []byte
	for b := range h.got {
		out = append(out, b)
	}
	return out
}

func newTestPusher(t *testing.T, log io.Writer) *pusher {
	t.Helper()
	policy, err := egress.ParsePolicy("loopback")
	if err != nil {
		t.Fatal(err)
	}
	return newPusher(egress.New(egress.Config{Policy: policy}), slog.New(slog.NewTextHandler(log, nil)))
}

func (p *pusher) held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

// payload is n bytes that begin with a letter.
func payload(letter byte, n int) []byte { return append([]byte{letter}, make([]byte, n-1)...) }

// What waits for one address is bounded by bytes, and what waits longest goes; a single notification may be larger.
func TestNotificationsOfOneAddressAreBoundedByBytes(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	p, h := newTestPusher(t, &log), newSlowHook(t)
	ref, to := task.Ref{ID: "t"}, task.Push{ID: "p", URL: h.URL}
	const mib = 1 << 20
	p.enqueue(ref, to, [][]byte{payload('0', 10*mib)})
	<-h.asked
	for i := range 10 {
		p.enqueue(ref, to, [][]byte{payload(byte('a'+i), 2*mib)})
		if n := p.held(); n > maxPushBytes {
			t.Fatalf("%d bytes are held", n)
		}
	}
	p.enqueue(ref, to, [][]byte{payload('x', 20*mib), payload('y', 2*mib)}) // x doesn't fit beside what is under way, and drives nothing out
	if got := string(h.told(t, p)); got != "0ijy" {
		t.Errorf("told %q", got)
	}
	if p.held() != 0 || !strings.Contains(log.String(), "push notifications were dropped") || !strings.Contains(log.String(), "count=9") {
		t.Errorf("%d bytes are held; the log says %s", p.held(), log.String())
	}
	p, h = newTestPusher(t, &log), newSlowHook(t)
	to.URL = h.URL
	p.enqueue(ref, to, [][]byte{payload('x', 40*mib)})
	if got := string(h.told(t, p)); got != "x" {
		t.Errorf("a large one alone: told %q", got)
	}
}

// What waits for all addresses is bounded, too; and what a deleted config would be told makes room.
func TestNotificationsOfAllAddressesAreBoundedByBytes(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	p, h := newTestPusher(t, &log), newSlowHook(t)
	ref := task.Ref{ID: "t"}
	const mib = 1 << 20
	at := func(i int) task.Push { return task.Push{ID: fmt.Sprint("p", i), URL: h.URL} }
	for i := range 4 {
		p.enqueue(ref, at(i), [][]byte{payload('s', mib)})
		<-h.asked
		for range 15 {
			p.enqueue(ref, at(i), [][]byte{payload(byte('a'+i), mib)})
		}
		if n := p.held(); n > maxAllBytes {
			t.Fatalf("%d bytes are held", n)
		}
	}
	p.enqueue(ref, at(5), [][]byte{payload('n', mib)}) // there is no room, and nothing of its own to drive out
	p.drop(ref, "p0")
	p.enqueue(ref, at(6), [][]byte{payload('z', mib)})
	got := h.told(t, p)
	for letter, want := range map[byte]int{'s': 4, 'a': 0, 'b': 15, 'c': 15, 'd': 15, 'n': 0, 'z': 1} {
		if n := len(got) - len(slices.DeleteFunc(slices.Clone(got), func(b byte) bool { return b == letter })); n != want {
			t.Errorf("told %d of %q, want %d", n, letter, want)
		}
	}
	if p.held() != 0 {
		t.Errorf("%d bytes are held", p.held())
	}
}
