package releaser

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/agentry/agentry/internal/phase"
)

func (r *rig) applied() []string {
	var out []string
	for _, a := range r.view.AppliedConfigs("d", "a") {
		out = append(out, a.Config)
	}
	return out
}

// The records of what a shared move led to come a moment after it, all in one write; none is lost.
func TestSharedMovesAreRecordedLater(t *testing.T) {
	within(t, func(r *rig) {
		first := r.proven()
		if diff := cmp.Diff([]string{first.Config()}, r.applied()); diff != "" {
			t.Errorf("with a head's write (-want +got):\n%s", diff)
		}
		r.prompt("2")
		moved := r.view.Revision()
		second := r.answer(phase.Applied)
		r.pass(keepAfter / 4)
		r.prompt("3")
		third := r.answer(phase.Applied)
		r.pass(keepAfter / 4)
		if now := r.view.Revision(); now != moved+1 {
			t.Errorf("the store went from %d to %d by one more move", moved, now)
		}
		r.pass(keepAfter)
		if diff := cmp.Diff([]string{second.Config(), third.Config(), first.Config()}, r.applied(), cmpopts.SortSlices(strings.Compare)); diff != "" {
			t.Errorf("later (-want +got):\n%s", diff)
		}
		if now := r.view.Revision(); now != moved+2 {
			t.Errorf("the records took %d writes", now-moved-1)
		}
	})
}

// A head's write takes the records with it, and a refusal finds its base among them.
func TestRecordsGoWithTheNextWrite(t *testing.T) {
	within(t, func(r *rig) {
		r.proven()
		r.prompt("2")
		second := r.answer(phase.Applied)
		r.prompt("3")
		r.answer(phase.Rejected, bad)
		r.want("stable 1 proven 1 refusal 1 held")
		if n := len(r.applied()); n != 2 {
			t.Errorf("%d records, want both with the veto's write", n)
		}
		if back := r.answer(phase.Applied); back.Token.Hash != second.Token.Hash {
			t.Errorf("now %s, want %s", back.Config(), second.Config())
		}
		r.pass(time.Minute)
		if n := len(r.applied()); n != 2 {
			t.Errorf("%d records after all", n)
		}
	})
}
