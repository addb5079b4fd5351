package redismemory_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/redismemory"
	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/test/harness"
)

// These name what a process of its own is asked to do; see holder.
const (
	holderAddress = "REDISMEMORY_TEST_HOLDER"
	holderTTL     = "REDISMEMORY_TEST_LOCK_TTL"
)

func key(session string) memory.Key {
	return memory.Key{Namespace: "default", Agent: "a", Principal: "ann@example.com", Session: session}
}

func say(n int) memory.Exchange {
	return memory.Exchange{ID: fmt.Sprint("r", n), Turns: []memory.Turn{
		{Role: "user", Text: fmt.Sprint("q", n)}, {Role: "assistant", Text: fmt.Sprint("a", n), Config: "1-a"},
	}}
}

// holder is a process that enters a session, says so, waits for a line and then remembers something.
type holder struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startHolder(t *testing.T, server *harness.Redis, lockTTL time.Duration) *holder {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHolder$")
	cmd.Env = append(os.Environ(), holderAddress+"="+server.URL, holderTTL+"="+lockTTL.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &holder{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line := h.line(t); line != "entered" {
		t.Fatalf("the holder says %q", line)
	}
	return h
}

func (h *holder) line(t *testing.T) string {
	t.Helper()
	if !h.out.Scan() {
		t.Fatalf("the holder ended: %v", h.out.Err())
	}
	return h.out.Text()
}

// TestHolder is the other process; by itself it checks that it is not asked for anything.
func TestHolder(t *testing.T) {
	address := os.Getenv(holderAddress)
	if address == "" {
		if os.Getenv(holderTTL) != "" {
			t.Error("half an order")
		}
		return
	}
	ttl, err := time.ParseDuration(os.Getenv(holderTTL))
	if err != nil {
		t.Fatal(err)
	}
	c, err := redis.New(redis.Config{Address: address, Prefix: redis.Prefix("default", "a")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := redismemory.New(redismemory.Config{Client: c, LockTTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	leave, err := m.Enter(t.Context(), key("s"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintln(os.Stdout, "entered")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	err = m.Remember(t.Context(), key("s"), say(0))
	_, _ = fmt.Fprintln(os.Stdout, "remembered:", errs.KindOf(err) == errs.Conflict, err)
	leave()
	_, _ = fmt.Fprintln(os.Stdout, "left")
	_ = m.Close()
	_ = c.Close()
}

// A session whose holder was killed opens by itself within the lock's life.
func TestKilledHolder(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	h := startHolder(t, server, redismemory.DefaultLockTTL)
	m := open(t, redismemory.Config{Client: client(t, server, "")})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := m.Enter(ctx, key("s")); !errs.Is(err, errs.Timeout) {
		t.Fatalf("let in beside its holder: %v", err)
	}
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	ctx, cancel = context.WithTimeout(t.Context(), 3*redismemory.DefaultLockTTL)
	defer cancel()
	leave, err := m.Enter(ctx, key("s"))
	if err != nil {
		t.Fatal(err)
	}
	leave()
	t.Logf("the session opened %s after the kill", time.Since(start))
}

// A holder keeps its session for as long as it lives.
func TestRenewal(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	const life = 400 * time.Millisecond
	h := startHolder(t, server, life)
	m := open(t, redismemory.Config{Client: client(t, server, "")})
	ctx, cancel := context.WithTimeout(t.Context(), 4*life)
	defer cancel()
	if _, err := m.Enter(ctx, key("s")); !errs.Is(err, errs.Timeout) {
		t.Errorf("let in beside its holder: %v", err)
	}
	_, _ = io.WriteString(h.in, "\n")
	if line := h.line(t); line != "remembered: false <nil>" {
		t.Error(line)
	}
}

// A holder that was silent for longer than its lock lives, and whose session was entered by another one since, writes nothing into it.
func TestFencing(t *testing.T) {
	t.Parallel()
	for name, stay := range map[string]bool{"while the other is in": true, "after the other left": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.StartRedis(t, harness.RedisOptions{})
			h := startHolder(t, server, 300*time.Millisecond)
			if err := h.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			m := open(t, redismemory.Config{Client: client(t, server, "")})
			leave, err := m.Enter(t.Context(), key("s"))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Remember(t.Context(), key("s"), say(1)); err != nil {
				t.Fatal(err)
			}
			if !stay {
				leave()
			}
			_, _ = io.WriteString(h.in, "\n")
			if err := h.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if line := h.line(t); !strings.HasPrefix(line, "remembered: true ") {
				t.Error(line)
			}
			h.line(t) // it left
			if err := m.Remember(t.Context(), key("s"), say(2)); stay && err != nil {
				t.Errorf("the stale holder's leave ended the new one's turn: %v", err)
			}
			leave()
			turns, err := m.History(t.Context(), key("s"), 0)
			if err != nil || turns[0].Text != "q1" || len(turns) != 4 {
				t.Errorf("%v, %v", turns, err)
			}
		})
	}
}

// Requests of one session that come to several instances are answered one at a time, and remembered in that order.
func TestInstancesInOrder(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	const instances, rounds = 4, 12
	var inside atomic.Int32
	var wg sync.WaitGroup
	n := atomic.Int32{}
	var mu sync.Mutex
	var order []string
	for i := range instances {
		m := open(t, redismemory.Config{Client: client(t, server, "")})
		wg.Go(func() {
			for range rounds {
				leave, err := m.Enter(t.Context(), key("s"))
				if err != nil {
					t.Errorf("enter: %v", err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two instances are in one session")
				}
				e := say(int(n.Add(1)))
				mu.Lock()
				order = append(order, e.Turns[0].Text)
				mu.Unlock()
				if err := m.Remember(t.Context(), key("s"), e); err != nil {
					t.Errorf("remember by %d: %v", i, err)
				}
				inside.Add(-1)
				leave()
			}
		})
	}
	wg.Wait()
	m := open(t, redismemory.Config{Client: client(t, server, "")})
	turns, err := m.History(t.Context(), key("s"), 0)
	if err != nil || len(turns) != 2*instances*rounds {
		t.Fatalf("%d turns, %v", len(turns), err)
	}
	for i, want := range order {
		if turns[2*i].Text != want {
			t.Fatalf("turn %d is %s, want %s", i, turns[2*i].Text, want)
		}
	}
}

// Who waits longest is let in first, whichever instance it waits at.
func TestFirstComeFirstServed(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	m := open(t, redismemory.Config{Client: client(t, server, "")})
	leave, err := m.Enter(t.Context(), key("s"))
	if err != nil {
		t.Fatal(err)
	}
	const waiting = 5
	in := make(chan int, waiting)
	var wg sync.WaitGroup
	for i := range waiting {
		m := open(t, redismemory.Config{Client: client(t, server, "")})
		wg.Go(func() {
			leave, err := m.Enter(t.Context(), key("s"))
			if err != nil {
				t.Errorf("enter: %v", err)
				return
			}
			in <- i
			leave()
		})
		err := harness.Poll(t.Context(), 10*time.Second, func(ctx context.Context) error {
			keys, err := server.Keys(ctx)
			if err != nil {
				return err
			}
			for _, k := range keys {
				if strings.HasSuffix(k, ":q") && admin.ZCard(ctx, k).Val() == int64(i+1) {
					return nil
				}
			}
			return fmt.Errorf("%d don't wait yet", i+1)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	leave()
	wg.Wait()
	for i := range waiting {
		if got := <-in; got != i {
			t.Errorf("number %d was in at place %d", got, i)
		}
	}
}

// BenchmarkTurn is what one request of a session costs here: enter, recall, remember, leave.
func BenchmarkTurn(b *testing.B) {
	server := harness.StartRedis(b, harness.RedisOptions{})
	c, err := redis.New(redis.Config{Address: server.URL, Prefix: redis.Prefix("default", "a")})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	m, err := redismemory.New(redismemory.Config{Client: c, MaxSessionTurns: 40})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	n := 0
	for b.Loop() {
		leave, err := m.Enter(b.Context(), key("s"))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := m.Recall(b.Context(), key("s"), memory.Query{Text: "q"}); err != nil {
			b.Fatal(err)
		}
		n++
		if err := m.Remember(b.Context(), key("s"), say(n)); err != nil {
			b.Fatal(err)
		}
		leave()
	}
}
