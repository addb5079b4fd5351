package assembler

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

// A model endpoint that may not be connected to refuses a new or changed spec; a proven one, one that runs and last good serve all the
// same, DEGRADED, and are not waited for.
func TestPermit(t *testing.T) {
	cases := map[string]struct {
		change  func(*draft)
		phase   phase.Phase
		waiting bool // a name may be looked up
	}{
		"new":            {change: func(*draft) {}, phase: phase.Rejected, waiting: true},
		"proven":         {change: func(d *draft) { d.proven = []string{"agent/helper"} }, phase: phase.Degraded},
		"from last good": {change: func(d *draft) { d.lastGood = true }, phase: phase.Degraded},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var asked []string
			waiting := false
			_, a := newWorld(t, func(cfg *Config) {
				cfg.Permit = func(ctx context.Context, url string) error {
					asked, waiting = append(asked, url), ctx.Err() == nil
					return errors.New("egress to model is denied")
				}
			})
			d := newDraft()
			c.change(&d)
			v := a.Apply(t.Context(), d.update(t))
			want := []phase.Fault{{Resource: "agent/helper", Field: "model.baseUrl", Code: phase.Invalid, Severity: phase.Error, Message: "egress to model is denied"}}
			if diff := cmp.Diff(want, v.Faults); v.Phase != c.phase || diff != "" {
				t.Errorf("%s\n%s", v.Phase, diff)
			}
			if diff := cmp.Diff([]string{"http://model/v1"}, asked); diff != "" || waiting != c.waiting {
				t.Errorf("waiting %t\n%s", waiting, diff)
			}
			if c.phase == phase.Rejected {
				return
			}
			d.lastGood, d.proven = false, nil
			d.prompt.Template, d.prompt.Version = "other", "2.0.0"
			if v := a.Apply(t.Context(), d.update(t)); v.Phase != phase.Degraded || waiting {
				t.Errorf("another prompt: %+v", v)
			}
			d.agent.Model.Model = "other"
			if v := a.Apply(t.Context(), d.update(t)); v.Phase != phase.Rejected {
				t.Errorf("another model: %+v", v)
			}
		})
	}
}

// A fallback's endpoint is asked for too, but not one that is where the model is, nor where an override puts all of them.
func TestPermitOfFallbacks(t *testing.T) {
	for override, want := range map[string][]phase.Fault{
		"":            {{Resource: "agent/helper", Field: "model.fallbacks[1].baseUrl", Code: phase.Invalid, Severity: phase.Error, Message: "egress to http://inside/v1 is denied"}},
		"http://stub": nil,
	} {
		_, a := newWorld(t, func(cfg *Config) {
			cfg.ModelBaseURL = override
			cfg.Permit = func(_ context.Context, url string) error {
				if url == "http://inside/v1" {
					return errors.New("egress to " + url + " is denied")
				}
				return nil
			}
		})
		d := newDraft()
		d.agent.Model.Fallbacks = []spec.Model{{Model: "b", API: "chat-completions"}, {Model: "c", API: "chat-completions", BaseURL: "http://inside"}}
		var denied []phase.Fault
		for _, f := range a.Apply(t.Context(), d.update(t)).Faults {
			if f.Code == phase.Invalid {
				denied = append(denied, f)
			}
		}
		if diff := cmp.Diff(want, denied); diff != "" {
			t.Errorf("override %q (-want +got):\n%s", override, diff)
		}
	}
}
