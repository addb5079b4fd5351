package mutation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/test/chaos/failpoint"
	"github.com/agentry/agentry/test/chaos/faults"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// A leader stands still within a write, past its lease, and goes on. The write must not be carried out: the sound run has the late
// writer too, and only the term's condition in the transaction holds it back.
func unfencedLeader() Mutation {
	return Mutation{
		Name: "unfenced-leader", Wrong: "a deposed leader's write isn't bound to its term", Property: "term", planes: 2,
		points: map[point]term{{world.Plane, "mutateUnfenced"}: on},
		perform: func(ctx context.Context, l *lab) error {
			old, err := faults.PlaneLeader(ctx, l.world)
			if err != nil {
				return err
			}
			door := failpoint.Door{Addr: old.Failpoints}
			if err := l.withinWrite(ctx, old); err != nil {
				return err
			}
			wrote, err := door.Count(ctx, "deafLeader")
			if err != nil {
				return err
			}
			now, err := l.depose(ctx, old)
			if err != nil {
				return err
			}
			if err := l.lateMoves(ctx, now); err != nil {
				return err
			}
			late, err := door.Count(ctx, "deafLeader")
			if err == nil && late <= wrote {
				err = fmt.Errorf("%s wrote nothing after it lost the lead", old.Name)
			}
			return err
		},
	}
}

// withinWrite arms the points and returns when the leader is within the write of a decision, for eight seconds.
func (l *lab) withinWrite(ctx context.Context, leader *world.Node) error {
	const before = "beforeReleaserWrite"
	if err := l.mutate(ctx); err != nil {
		return err
	}
	if err := l.arm(ctx, point{world.Plane, "deafLeader"}, on); err != nil {
		return err
	}
	// Who leads next judges nothing and records nothing meanwhile, or the late writer would lose the race for the head, or for a record
	// that its write carries too.
	for _, n := range l.nodes(world.Plane) {
		if n == leader {
			continue
		}
		for _, name := range []string{before, "holdRecords"} {
			if err := (failpoint.Door{Addr: n.Failpoints}).Arm(ctx, name, failpoint.Sleep(30*time.Second)); err != nil {
				return err
			}
		}
	}
	door := failpoint.Door{Addr: leader.Failpoints}
	if err := door.Arm(ctx, before, failpoint.Sleep(8*time.Second)); err != nil {
		return err
	}
	if err := l.apply(ctx, 2); err != nil {
		return err
	}
	return harness.Poll(ctx, 5*time.Second, func(ctx context.Context) error {
		n, err := door.Count(ctx, before)
		if err == nil && n == 0 {
			err = fmt.Errorf("%s writes no decision", leader.Name)
		}
		return err
	})
}

// depose stops the leader until another one leads, lets it go on, and gives the number of the new term.
func (l *lab) depose(ctx context.Context, leader *world.Node) (int64, error) {
	before, err := leads(ctx, l)
	if err != nil {
		return 0, err
	}
	if err := leader.Signal(syscall.SIGSTOP); err != nil {
		return 0, err
	}
	now := before
	err = harness.Poll(ctx, 20*time.Second, func(ctx context.Context) error {
		var err error
		if now, err = leads(ctx, l); err == nil && now <= before {
			err = fmt.Errorf("nobody took the lead after term %d", before)
		}
		return err
	})
	return now, errors.Join(err, leader.Signal(syscall.SIGCONT))
}

// lateMoves looks for what a leader wrote whose term was over, until the late writer must have tried: a move with its term, or the head
// of the agent, which nobody else writes meanwhile: who leads now waits before its first decision.
func (l *lab) lateMoves(ctx context.Context, now int64) error {
	err := harness.Poll(ctx, 6*time.Second, func(ctx context.Context) error {
		late, err := l.late(ctx, now)
		if err != nil {
			return err
		}
		if late == "" {
			return errNever
		}
		l.findings.Violate("term", "%s, when term %d had begun", late, now)
		return nil
	})
	if err != nil && !strings.Contains(err.Error(), errNever.Error()) {
		return err
	}
	return nil
}

func (l *lab) late(ctx context.Context, now int64) (string, error) {
	resp, err := l.world.Etcd().Get(ctx, view.MovePrefix, clientv3.WithPrefix())
	if err != nil {
		return "", err
	}
	for _, kv := range resp.Kvs {
		var m view.MoveRecord
		if err := json.Unmarshal(kv.Value, &m); err != nil {
			return "", err
		}
		if m.Term != 0 && m.Term < now && kv.ModRevision > now {
			return fmt.Sprintf("a move of term %d was written at revision %d", m.Term, kv.ModRevision), nil
		}
	}
	if resp, err = l.world.Etcd().Get(ctx, view.Root, clientv3.WithPrefix(), clientv3.WithKeysOnly()); err != nil {
		return "", err
	}
	for _, kv := range resp.Kvs { // whatever is kept of the agent: a decision may be a head, a record or a refusal
		if strings.Contains(string(kv.Key), "/default/"+agentName) && kv.ModRevision > now {
			return fmt.Sprintf("%s was written at revision %d by a leader of before", kv.Key, kv.ModRevision), nil
		}
	}
	return "", nil
}

// leads gives the number of the term at work; an error while nobody leads.
func leads(ctx context.Context, l *lab) (int64, error) {
	resp, err := l.world.Etcd().Get(ctx, view.LeaderKey)
	if err != nil {
		return 0, err
	}
	if len(resp.Kvs) == 0 {
		return 0, fmt.Errorf("nobody leads")
	}
	return resp.Kvs[0].ModRevision, nil
}
