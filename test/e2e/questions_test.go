package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// questions asks an agent again and again and remembers the configs that answered, in the order of the questions.
type questions struct {
	agent *harness.Agent
	stop  context.CancelFunc
	done  chan struct{}
	wg    sync.WaitGroup

	mu       sync.Mutex // guards what follows
	configs  map[int]string
	failures []error
}

func questionsTo(ctx context.Context, a *harness.Agent, every time.Duration) *questions {
	ctx, stop := context.WithCancel(ctx)
	l := &questions{agent: a, stop: stop, done: make(chan struct{}), configs: map[int]string{}}
	go func() {
		defer close(l.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			l.wg.Go(func() { l.one(context.WithoutCancel(ctx), n) })
		}
	}()
	return l
}

func (l *questions) one(ctx context.Context, n int) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ans, err := l.agent.Chat(ctx, "", "req")
	if err == nil && !strings.HasPrefix(ans.Text, "done") {
		err = fmt.Errorf("answered %q", ans.Text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures = append(l.failures, err)
		return
	}
	l.configs[n] = ans.Config
}

// atLeast waits until so many were answered: an instance that moves twice is seen to.
func (l *questions) atLeast(t *testing.T, n int) {
	t.Helper()
	eventually(t, 30*time.Second, func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if got := len(l.configs) + len(l.failures); got < n {
			return fmt.Errorf("%d requests ended", got)
		}
		return nil
	})
}

// end gives how many questions were answered, the configs that did, each as long as it did once, and what failed.
func (l *questions) end() (int, []string, []error) {
	l.stop()
	<-l.done
	l.wg.Wait()
	var out []string
	for n := range 1_000_000 {
		c, ok := l.configs[n]
		if ok && (len(out) == 0 || out[len(out)-1] != c) {
			out = append(out, c)
		}
		if n > len(l.configs)+len(l.failures) {
			break
		}
	}
	return len(l.configs), out, l.failures
}

// judgeLoad ends a load once each was asked so often: nothing failed, and each agent moved as often as wanted.
func judgeLoad(t *testing.T, loads []*questions, each int, moves map[string]int) {
	t.Helper()
	asked := 0
	for _, l := range loads {
		l.atLeast(t, each)
		n, configs, failures := l.end()
		asked += n
		if len(failures) > 0 {
			t.Errorf("agent %s: %d requests failed, first: %v", l.agent.Agent, len(failures), failures[0])
		}
		if got := len(configs) - 1; got != moves[l.agent.Agent] {
			t.Errorf("agent %s moved %d times (%v), want %d", l.agent.Agent, got, configs, moves[l.agent.Agent])
		}
	}
	if asked < 100 {
		t.Errorf("only %d requests were asked", asked)
	}
	t.Logf("%d requests answered", asked)
}
