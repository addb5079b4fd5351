package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// spoken is the small agent with a voice, which only the next release knows.
func spoken(url, voice string) harness.Files {
	files := helper(url, `"alpha"`)
	if voice != "" {
		files["helper/agent-base.json"] = fmt.Sprintf(`{"promptKey": "helper", "voice": %q}`, voice)
	}
	return files
}

// An agentd of this release under the control plane of the next: what it can't do is a warning where that is allowed, a refusal where
// it isn't, and never silence.
func TestOldAgentdUnderANewerControlPlane(t *testing.T) {
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.Programs = map[string]string{"controlplane": variant(t, env.Dir+"/next", "controlplane", nextRelease())}
	w := worldIn(t, env, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	w.apply(t, spoken(stub.URL, ""))
	a := w.agent(t, "helper")
	w.settled(t, "helper")
	for _, passed := range []string{"unknown message passed over", "unknown command passed over"} {
		eventually(t, 5*time.Second, func(context.Context) error {
			if !strings.Contains(a.Output(), passed) {
				return errors.New("agentd does not say: " + passed)
			}
			return nil
		})
	}

	resp, err := w.api.Apply(t.Context(), spoken(stub.URL, "soft"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(resp.GetNotes(), func(n string) bool {
		return strings.Contains(n, "not_supported") && strings.Contains(n, "voice")
	}) {
		t.Errorf("apply's notes say nothing: %q", resp.GetNotes())
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err != nil {
			return err
		}
		if len(st.Instances) != 1 || st.Instances[0].Phase != "APPLIED" || st.Revision.Stable != 2 || !warned(st.Instances[0].Faults) {
			return fmt.Errorf("status %+v, want APPLIED with a warning not_supported of voice", st)
		}
		return nil
	})
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Revision != "2" {
		t.Errorf("answer %+v, %v", ans, err)
	}

	for _, c := range []struct {
		voice, code string
		revision    int64
	}{{"must", "not_supported", 3}, {"bare", "invalid", 4}} {
		w.apply(t, spoken(stub.URL, c.voice))
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			st, err := w.Status(ctx, w.cp, "helper")
			if err != nil {
				return err
			}
			r := st.LastRefusal
			if r == nil || r.Revision != c.revision || st.Revision.Desired != 2 {
				return fmt.Errorf("voice %s: status %+v, want a refusal of revision %d", c.voice, st, c.revision)
			}
			if !slices.ContainsFunc(r.Faults, func(f harness.Fault) bool {
				return f.Code == c.code && f.Field == "voice" && f.Resource == "agent/helper" && f.Severity == "ERROR"
			}) {
				return fmt.Errorf("voice %s: faults %+v, want %s of field voice", c.voice, r.Faults, c.code)
			}
			return nil
		})
	}
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Revision != "2" {
		t.Errorf("after the refusals: %+v, %v", ans, err)
	}

	// The agentd is upgraded in its place: it starts from the last good config of the older one, and the warning is gone.
	if err := a.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	env.Programs["agentd"] = variant(t, env.Dir+"/next-agentd", "agentd", nextRelease())
	if err := a.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err != nil {
			return err
		}
		if len(st.Instances) != 1 || st.Instances[0].Phase != "APPLIED" || st.Instances[0].ConfigState != "live" || warned(st.Instances[0].Faults) {
			return fmt.Errorf("status %+v, want APPLIED without the warning", st)
		}
		return nil
	})
	// What the older one refused is no refusal of this one.
	w.apply(t, spoken(stub.URL, "must, please"))
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err == nil && st.Revision.Stable != 5 {
			err = fmt.Errorf("status %+v", st)
		}
		return err
	})

	// The control plane is set back: what it holds was written by the newer one. Nobody loses what runs, and it goes on being shown.
	if err := w.cp.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	delete(env.Programs, "controlplane")
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err == nil && (len(st.Instances) != 1 || st.Instances[0].Running == nil || st.Instances[0].Running.Revision != 5) {
			err = fmt.Errorf("status %+v", st)
		}
		return err
	})
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Revision != "5" {
		t.Errorf("under the control plane that was set back: %+v, %v", ans, err)
	}
	st := w.status(t, "helper")
	t.Logf("set back: %s, instance %+v", st.Condition, st.Instances[0])
	w.apply(t, spoken(stub.URL, ""))
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		ans, err := a.Chat(ctx, "", "hello")
		if err == nil && ans.Revision != "6" {
			err = fmt.Errorf("answered by revision %s", ans.Revision)
		}
		return err
	})
}

func warned(faults []harness.Fault) bool {
	return slices.ContainsFunc(faults, func(f harness.Fault) bool {
		return f.Code == "not_supported" && f.Severity == "WARNING" && f.Field == "voice" && f.Resource == "agent/helper"
	})
}

// An agentd of the next release under this control plane: everything works, and what this one can't read is counted and said.
func TestNewAgentdUnderAnOlderControlPlane(t *testing.T) {
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.Programs = map[string]string{"agentd": variant(t, env.Dir+"/next", "agentd", nextRelease())}
	w := worldIn(t, env, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	w.apply(t, spoken(stub.URL, ""))
	a := w.agent(t, "helper")
	w.settled(t, "helper")
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		n, err := w.cp.Metric(ctx, "agentry_push_unknown_total")
		if err == nil && n < 2 {
			err = fmt.Errorf("%v unknown messages were counted, want 2: a kind of message and a phase", n)
		}
		return err
	})
	if !strings.Contains(w.cp.Output(), "can't read; it is passed over") {
		t.Error("the control plane's log says nothing")
	}
	for n := 2; n <= 4; n++ {
		files := spoken(stub.URL, "")
		files["helper/agent-base.json"] = fmt.Sprintf(`{"promptKey": "helper", "description": "take %d"}`, n)
		w.apply(t, files)
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			ans, err := a.Chat(ctx, "", "hello")
			if err == nil && ans.Revision != fmt.Sprint(n) {
				err = fmt.Errorf("answered by revision %s, want %d", ans.Revision, n)
			}
			return err
		})
	}
	if n := strings.Count(a.Output(), "stream ended"); n != 0 {
		t.Errorf("the stream broke %d times:\n%s", n, a.Output())
	}
	if _, err := w.api.Apply(t.Context(), spoken(stub.URL, "soft")); err == nil || !strings.Contains(err.Error(), "voice") {
		t.Errorf("this release takes a field that it doesn't know: %v", err)
	}
}
