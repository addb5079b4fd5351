package mutation

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// A change that no stream is woken for: the instance never converges.
func droppedPush() Mutation {
	return Mutation{
		Name: "dropped-push", Wrong: "a control plane passes over a change instead of pushing it", Property: "P3",
		points: map[point]term{{world.Plane, "mutateDropPush"}: on},
		perform: func(ctx context.Context, l *lab) error {
			if err := l.mutate(ctx); err != nil {
				return err
			}
			if err := l.apply(ctx, 2); err != nil {
				return err
			}
			if err := l.reaches(ctx, 2, 8*time.Second); err != nil {
				l.findings.Violate("P3", "an instance did not converge: %v", err)
			}
			return nil
		},
	}
}

// An older config is sent after a newer one. A sound instance fences it, so the sound run has the wrong server too.
func reorderedVersions() Mutation {
	server := point{world.Plane, "mutateReorder"}
	return Mutation{
		Name: "reordered-versions", Wrong: "a control plane sends an older config after a newer one and the instance's fence is open", Property: "P2",
		points: map[point]term{{world.Agentd, "mutateNoFence"}: on, {world.Agentd, "mutateNoFenceAtCommit"}: on},
		perform: func(ctx context.Context, l *lab) error {
			if err := l.mutate(ctx); err != nil {
				return err
			}
			if err := l.arm(ctx, server, "1*return"); err != nil {
				return err
			}
			if err := l.apply(ctx, 2); err != nil {
				return err
			}
			var newest served
			err := harness.Poll(ctx, 5*time.Second, func(ctx context.Context) error {
				s, err := l.served(ctx)
				if err != nil {
					return err
				}
				if s.Plane.Running.Epoch < newest.Plane.Running.Epoch || s.Plane.Running.Generation < newest.Plane.Running.Generation {
					l.findings.Violate("P2", "an instance went back from generation %d to %d", newest.Plane.Running.Generation, s.Plane.Running.Generation)
					return nil
				}
				newest = s
				return errNever
			})
			if err == nil {
				return nil
			}
			if newest.Loaded.Revision != 2 {
				l.findings.Violate("P3", "an instance runs revision %d, want 2", newest.Loaded.Revision)
			}
			return l.passed(ctx, map[point]term{server: on})
		},
	}
}

// A config assembled from two: what a request sees must carry one marker.
func mixedSnapshot() Mutation {
	return Mutation{
		Name: "mixed-snapshot", Wrong: "an instance keeps one resource of the old config", Property: "P4",
		points: map[point]term{{world.Agentd, "mutateMixed"}: on},
		perform: func(ctx context.Context, l *lab) error {
			if err := l.mutate(ctx); err != nil {
				return err
			}
			if err := l.apply(ctx, 2); err != nil {
				return err
			}
			if err := l.reaches(ctx, 2, 8*time.Second); err != nil {
				l.findings.Violate("P3", "an instance did not converge: %v", err)
				return nil
			}
			ans, err := l.ask(ctx)
			if err != nil {
				return err
			}
			if want := "marker 2 temperature " + temperature(2); !strings.Contains(ans.Text, want) {
				l.findings.Violate("P4", "a request of revision %s saw %q, want %q", ans.Revision, ans.Text, want)
			}
			return nil
		},
	}
}

// A disk that loses what wasn't synced: the instance must not say APPLIED without a word.
func skippedSync() Mutation {
	return Mutation{
		Name: "skipped-fsync", Wrong: "an instance says APPLIED before the config is on the disk", Property: "durability",
		points: map[point]term{{world.Agentd, "mutateSkipSync"}: on},
		needs: func() error {
			_, err := exec.LookPath("strace")
			return err
		},
		perform: func(ctx context.Context, l *lab) error {
			n := l.agentd()
			n.Kill()
			n.Override(world.Override{Prefix: []string{
				"strace", "-f", "-qq", "--seccomp-bpf", "-o", l.world.Dir + "/strace.log", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO",
			}})
			if err := n.Up(ctx, 15*time.Second); err != nil {
				return err
			}
			if err := l.reaches(ctx, 1, 8*time.Second); err != nil {
				return err
			}
			if err := l.mutate(ctx); err != nil {
				return err
			}
			if err := l.apply(ctx, 2); err != nil {
				return err
			}
			if err := l.reaches(ctx, 2, 8*time.Second); err != nil {
				l.findings.Violate("P3", "an instance did not converge: %v", err)
				return nil
			}
			err := harness.Poll(ctx, 3*time.Second, func(ctx context.Context) error {
				s, err := l.served(ctx)
				if err != nil {
					return err
				}
				for _, f := range s.Plane.Faults {
					if f.Code == "not_persisted" {
						return nil
					}
				}
				return fmt.Errorf("it says %s, without the fault not_persisted", s.Plane.Phase)
			})
			if err != nil {
				l.findings.Violate("durability", "no fsync succeeds on an instance's disk and it tells nobody: %v", err)
			}
			return nil
		},
	}
}

// An instance that comes back with what it must run is sent no content.
func lostResume() Mutation {
	const bytes = "agentry_push_content_bytes_total"
	return Mutation{
		Name: "lost-resume", Wrong: "a control plane sends content that the instance has", Property: "resume",
		points: map[point]term{{world.Plane, "mutateLostResume"}: on},
		perform: func(ctx context.Context, l *lab) error {
			if err := l.mutate(ctx); err != nil {
				return err
			}
			before, err := l.metric(ctx, bytes)
			if err != nil {
				return err
			}
			l.agentd().Kill()
			if err := l.agentd().Up(ctx, 10*time.Second); err != nil {
				return err
			}
			if err := harness.Poll(ctx, 8*time.Second, func(ctx context.Context) error {
				s, err := l.served(ctx)
				if err == nil && (!s.Plane.Connected || s.Plane.Phase != "APPLIED") {
					err = fmt.Errorf("it says %+v", s.Plane)
				}
				return err
			}); err != nil {
				return err
			}
			sent := 0.0
			if err := harness.Poll(ctx, time.Second, func(ctx context.Context) error { // content may be on its way
				after, err := l.metric(ctx, bytes)
				if sent = after - before; err == nil && sent == 0 {
					err = errNever
				}
				return err
			}); err == nil {
				l.findings.Violate("resume", "an instance that came back with what it must run was sent %.0f bytes of content", sent)
			}
			return nil
		},
	}
}
