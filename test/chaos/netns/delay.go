package netns

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"
)

// queued bounds the packets that wait; more pass at once.
const queued = 4096

// CanDelay says why packets can't be delayed here; nil: they can. The kernel's own way (tc netem) is not in every kernel; a queue to
// this process is in more.
func CanDelay() error {
	if err := Available(); err != nil {
		return err
	}
	_, err := exec.LookPath("iptables-legacy")
	return err
}

// Delayed is a host whose packets wait.
type Delayed struct {
	host   *Host
	queue  *nfqueue.Nfqueue
	stop   context.CancelFunc
	wg     sync.WaitGroup
	passed atomic.Int64
}

// Delay lets every packet that goes out of the host wait for d, plus up to jitter: they may overtake each other then.
func (h *Host) Delay(ctx context.Context, d, jitter time.Duration) (*Delayed, error) {
	if err := CanDelay(); err != nil {
		return nil, err
	}
	ns, err := os.Open(filepath.Join("/run/netns", h.ns))
	if err != nil {
		return nil, err
	}
	defer func() { _ = ns.Close() }()
	queue, err := nfqueue.Open(&nfqueue.Config{
		NetNS: int(ns.Fd()), NfQueue: 1, MaxPacketLen: 64, MaxQueueLen: queued, Copymode: nfqueue.NfQnlCopyMeta,
		Flags: nfqueue.NfQaCfgFlagFailOpen, AfFamily: unix.AF_INET, WriteTimeout: 100 * time.Millisecond,
	})
	if err != nil {
		return nil, fmt.Errorf("queue of %s: %w", h.Name, err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	x := &Delayed{host: h, queue: queue, stop: stop}
	err = queue.RegisterWithErrorFunc(life, func(a nfqueue.Attribute) int {
		if a.PacketID == nil {
			return 0
		}
		id, wait := *a.PacketID, d
		if jitter > 0 {
			wait += rand.N(jitter) //nolint:gosec // G404: jitter
		}
		x.passed.Add(1)
		x.wg.Add(1)
		time.AfterFunc(wait, func() {
			defer x.wg.Done()
			_ = queue.SetVerdict(id, nfqueue.NfAccept)
		})
		return 0
	}, func(error) int {
		if life.Err() != nil {
			return 1
		}
		runtime.Gosched()
		return 0
	})
	if err == nil {
		err = x.rule(ctx, "-A")
	}
	if err != nil {
		stop()
		return nil, errors.Join(err, queue.Close())
	}
	return x, nil
}

func (x *Delayed) rule(ctx context.Context, what string) error {
	return run(ctx, "ip", "netns", "exec", x.host.ns, "iptables-legacy", "-w", what, "OUTPUT", "-o", "eth0", "-j", "NFQUEUE", "--queue-num", strconv.Itoa(1), "--queue-bypass")
}

// Heal lets packets pass at once again and tells how many waited.
func (x *Delayed) Heal(ctx context.Context) (int64, error) {
	err := x.rule(ctx, "-D")
	x.wg.Wait()
	x.stop()
	return x.passed.Load(), errors.Join(err, x.queue.Close())
}
