package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// Identities are the faults of certificates: one is revoked, one runs out.
func Identities() []world.Fault { return []world.Fault{revoked{}, expired{}} }

// revoked ends an instance's identity. Its stream is cut, it goes on with what it has, and comes back with a new join token only.
type revoked struct{}

// Name implements world.Fault.
func (revoked) Name() string { return "identity-revoked" }

// Needs implements world.Fault.
func (revoked) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (revoked) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	n, err := anyAgentd().choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	cp := people(pick(r, w.Planes))
	ids, err := cp.Identities()
	if err != nil {
		return world.Injected{}, err
	}
	if _, err := ids.Revoke(ctx, connect.NewRequest(&identityv1.RevokeRequest{Namespace: "default", Agent: n.Agent, Instance: n.Instance, Message: "chaos"})); err != nil {
		return world.Injected{}, err
	}
	cutOff := connected(ctx, n, false, 10*time.Second)
	return world.Injected{
		What: fmt.Sprintf("revoked the identity of %s", n.Name), Hold: between(r, 2*time.Second, 4*time.Second), Excused: excuse(n),
		Heal: func(ctx context.Context) error {
			if cutOff == nil {
				cutOff = connected(ctx, n, false, 0) // it may not have come back meanwhile
			}
			return errors.Join(cutOff, enrol(ctx, cp, n))
		},
	}, nil
}

// enrol starts an instance without its identity, by a new join token.
func enrol(ctx context.Context, cp *harness.ControlPlane, n *world.Node) error {
	n.Kill()
	if err := os.Remove(filepath.Join(n.Dir, "identity")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	token, err := cp.JoinToken(ctx, "default", n.Agent)
	if err != nil {
		return err
	}
	n.Override(world.Override{Vars: []string{"AGENTD_JOIN_TOKEN=" + token}})
	err = n.Up(ctx, upWait)
	if err == nil {
		err = connected(ctx, n, true, passWait)
	}
	n.Override(world.Override{})
	return err
}

func people(n *world.Node) *harness.ControlPlane {
	return &harness.ControlPlane{People: n.Addr, Runtime: n.Peer, DataDir: n.Dir}
}

// connected waits until an instance has a stream, or has none.
func connected(ctx context.Context, n *world.Node, want bool, d time.Duration) error {
	ask := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		got, err := hasStream(ctx, n)
		if err == nil && got != want {
			err = fmt.Errorf("%s has a stream: %t, want %t", n.Name, got, want)
		}
		return err
	}
	if d == 0 {
		return ask(ctx)
	}
	return harness.Poll(ctx, d, ask)
}

// expiredTTL is how long the certificate lives that runs out.
const expiredTTL = 14 * time.Second

// expired lets the certificate of an instance run out while it stands still. It renews it and comes back by itself.
type expired struct{}

// Name implements world.Fault.
func (expired) Name() string { return "identity-expired" }

// Needs implements world.Fault.
func (expired) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (expired) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	n, err := anyAgentd().choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	plane := pick(r, w.Planes)
	plane.Kill()
	plane.Override(world.Override{Vars: []string{"AGENTRY_IDENTITY_LEAF_TTL=" + expiredTTL.String()}})
	err = plane.Up(ctx, upWait)
	plane.Override(world.Override{})
	var before string
	if err == nil {
		err = shortLived(ctx, plane, n)
	}
	if err == nil {
		before, err = serial(ctx, n)
	}
	if err == nil {
		err = n.Signal(sigStop) // before it renews, at half its time, by another, which gives certificates for a day
	}
	plane.Kill() // it gives such, too, when it starts again
	if err = errors.Join(err, plane.Up(ctx, upWait)); err != nil {
		_ = n.Signal(sigCont)
		return world.Injected{}, err
	}
	var fired int64
	return world.Injected{
		What: fmt.Sprintf("%s stands still while its certificate runs out", n.Name), Hold: expiredTTL + between(r, time.Second, 3*time.Second), Excused: excuse(n),
		Heal: func(ctx context.Context) error {
			if err := n.Signal(sigCont); err != nil {
				return err
			}
			if err := n.WaitReady(ctx, upWait); err != nil {
				return err
			}
			if err := connected(ctx, n, true, 30*time.Second); err != nil {
				return err
			}
			renewed := harness.Poll(ctx, passWait, func(ctx context.Context) error { // its old stream may seem to live for a moment
				after, err := serial(ctx, n)
				if err == nil && after == before {
					err = fmt.Errorf("%s still has the certificate that ran out", n.Name)
				}
				return err
			})
			if renewed == nil {
				fired = 1
			}
			return nil
		},
		Fired: func() (int64, error) { return fired, nil },
	}, nil
}

// shortLived gives an instance a certificate by one control plane.
func shortLived(ctx context.Context, plane, n *world.Node) error {
	n.Kill()
	if err := os.Remove(filepath.Join(n.Dir, "identity")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	token, err := people(plane).JoinToken(ctx, "default", n.Agent)
	if err != nil {
		return errors.Join(err, n.Up(ctx, upWait))
	}
	n.Override(world.Override{Vars: []string{"AGENTD_JOIN_TOKEN=" + token, "CONTROL_PLANE=" + plane.Peer}})
	err = n.Up(ctx, upWait)
	if err == nil {
		err = connected(ctx, n, true, passWait)
	}
	n.Override(world.Override{})
	if err != nil {
		return err
	}
	// All control planes again. The identity on its disk has some seconds left.
	n.Kill()
	if err := n.Up(ctx, upWait); err != nil {
		return err
	}
	return connected(ctx, n, true, passWait)
}
