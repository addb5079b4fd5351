package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/phase"
)

// wanted is what --for asks.
type wanted struct {
	condition string
	revision  int64
}

func parseWanted(text string) (wanted, error) {
	key, value, _ := strings.Cut(text, "=")
	switch key {
	case "condition":
		for _, k := range []phase.Condition{
			phase.CondDeleted, phase.CondOffline, phase.CondRejected, phase.CondHeld, phase.CondProgressing, phase.CondDegraded, phase.CondUnproven, phase.CondSynced,
		} {
			if strings.EqualFold(string(k), value) {
				return wanted{condition: string(k)}, nil
			}
		}
		return wanted{}, usagef("--for=%s: no such condition (Deleted, Offline, Rejected, Held, Progressing, Degraded, Unproven, Synced)", text)
	case "revision":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 1 {
			return wanted{}, usagef("--for=%s: a revision is a number from 1", text)
		}
		return wanted{revision: n}, nil
	default:
		return wanted{}, usagef("--for=%s: condition=NAME or revision=N", text)
	}
}

func (c *cli) waitCmd() *cobra.Command {
	var until string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait KIND/NAME --for=condition=Synced|revision=N", Short: "Wait for a condition or a revision: 0 it holds, 1 it can't come any more, 7 timeout",
		Example: "  agentctl wait agent/mse-nacos-helper --for=condition=Synced\n  agentctl wait agent/mse-nacos-helper --for=revision=9 --timeout 30s",
		Long: `Waits until an agent is in a condition, or until a revision is stable and served by every live instance (of a prompt, an MCP
entry or a credential: until it is written). Exit codes: 0 it holds; 1 it does not and can't come any more (the revision was refused
or rolled back, the agent is deleted), or does not now with --timeout 0; 3 there is no such thing; 7 the time is over.`,
		Args: args(1, 1), ValidArgsFunction: c.completer(kindAgent),
		RunE: func(cmd *cobra.Command, words []string) error {
			r, err := parseRef(words[0], kindAgent)
			if err != nil {
				return err
			}
			w, err := parseWanted(until)
			if err != nil {
				return err
			}
			if r.kind != kindAgent && w.revision == 0 {
				return usagef("only agents have conditions; %s can be waited for with --for=revision=N", r)
			}
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return c.wait(cmd.Context(), cl, r, w, timeout)
		},
	}
	cmd.Flags().StringVar(&until, "for", "condition=Synced", "condition=NAME or revision=N")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "give up after it; 0: ask once")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"condition=Synced", "revision="}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) wait(ctx context.Context, cl *client, r ref, w wanted, timeout time.Duration) error {
	once := timeout <= 0
	if once {
		timeout = unaryDeadline
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last, verdict := "nothing was heard of it", exitTimeout
	judge := func(said string, holds, never bool) bool {
		last = said
		switch {
		case holds:
			verdict = exitOK
		case never || once:
			verdict = exitNo
		default:
			return false
		}
		return true
	}
	var err error
	if r.kind == kindAgent {
		if _, err := cl.getStatus(ctx, r.name); connect.CodeOf(err) == connect.CodeNotFound { // a watch would wait for it to come
			return err
		}
		err = cl.eachStatus(ctx, r.name, func(s *releasev1.AgentStatus) (bool, error) {
			d := toStatus(s)
			holds, never := w.judge(d)
			return judge(fmt.Sprintf("it is %s at revision %s", d.Condition, d.revisions()), holds, never), nil
		})
	} else {
		err = cl.eachObject(ctx, r, func(o *specv1.Object) bool {
			return judge("it is at "+itoa(o.GetRevision()), !o.GetDeleted() && o.GetRevision() >= w.revision, o.GetDeleted())
		})
	}
	switch {
	case err != nil && !errors.Is(err, context.DeadlineExceeded) && connect.CodeOf(err) != connect.CodeDeadlineExceeded:
		return err
	case verdict == exitOK:
		if !c.flags.quiet {
			_, err = fmt.Fprintf(c.env.Stdout, "%s: %s\n", r, last)
			return err
		}
		return nil
	case verdict == exitNo:
		return failf(exitNo, "agentctl status "+r.name, "%s: not so: %s", r, last)
	case err == nil && ctx.Err() == nil:
		return failf(exitFailure, "", "%s: stopped waiting: %s", r, last)
	default:
		return failf(exitTimeout, "agentctl status "+r.name, "%s: waited %s: %s", r, timeout, last)
	}
}

// judge tells whether it is so, and whether it can't become so without a person.
func (w wanted) judge(d statusDoc) (holds, never bool) {
	if w.condition != "" {
		return d.Condition == w.condition, d.Condition == string(phase.CondDeleted)
	}
	if d.Condition == string(phase.CondDeleted) {
		return false, true
	}
	if d.refused(w.revision) {
		return false, true
	}
	if d.Revision.Stable < w.revision {
		return false, false
	}
	for _, i := range d.Instances {
		if live(i) && i.Running.Revision < w.revision {
			return false, false
		}
	}
	return true, false
}

// refused reports whether revision was refused and is not what counts now.
func (d statusDoc) refused(revision int64) bool {
	r := d.LastRefusal
	return r != nil && r.Revision == revision && (d.Revision.Desired != revision || d.Condition == string(phase.CondRejected))
}

// live reports whether an instance is there.
func live(i instanceDoc) bool {
	return i.Phase != string(phase.Offline) && i.Phase != string(phase.Stale)
}

// eachObject hands over a thing and each change of it, until each says done or ctx ends.
func (cl *client) eachObject(ctx context.Context, r ref, each func(*specv1.Object) bool) error {
	if _, err := cl.object(ctx, ref{kind: r.kind, name: r.name}); err != nil {
		return err
	}
	open := func(ctx context.Context) (*connect.ServerStreamForClient[specv1.WatchResponse], error) {
		return cl.spec.Watch(ctx, connect.NewRequest(&specv1.WatchRequest{Namespace: cl.namespace, Kind: r.kind, Name: r.name}))
	}
	return follow(ctx, cl, open, func(m *specv1.WatchResponse) (bool, error) {
		return m.GetObject() != nil && each(m.GetObject()), nil
	})
}
