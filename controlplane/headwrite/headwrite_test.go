package headwrite

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newWriter(t *testing.T) (*Writer, *view.View) {
	t.Helper()
	s := memstore.New()
	if _, err := view.Init(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	v, err := view.Open(t.Context(), view.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Config{Store: s, View: v, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := v.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = s.Close()
	})
	return w, v
}

func prompt(c *Change, name string, mod int64) {
	c.Replace(manifest.KindPrompt, name, mod, view.Encode(view.PromptHead{Name: name}), view.HeadMove{Kind: manifest.KindPrompt, Name: name, To: "1"})
}

func TestOneTransactionOfHeadsAndOneRecord(t *testing.T) {
	w, v := newWriter(t)
	before := v.Revision()
	rev, err := w.Retrying(t.Context(), Why{Actor: "dev", Cause: "apply", Message: "why"}, func() (*Change, error) {
		c := NewChange("d")
		c.Keep([]byte("content"))
		prompt(c, "a", 0)
		prompt(c, "b", 0)
		return c, nil
	})
	if err != nil || rev <= before || v.Revision() < rev {
		t.Fatalf("revision %d after %d, view at %d: %v", rev, before, v.Revision(), err)
	}
	moves := v.Moves("d", manifest.KindPrompt, "b")
	if len(moves) != 1 || moves[0].Seq != rev || len(moves[0].Heads) != 2 || moves[0].Actor != "dev" || moves[0].Heads[1].Namespace != "d" {
		t.Errorf("moves %+v", moves)
	}
	if _, ok := v.Blob(manifest.Sum([]byte("content"))); !ok {
		t.Error("the content isn't there")
	}
}

func TestPlansAgainAfterALostRace(t *testing.T) {
	w, v := newWriter(t)
	plans := 0
	put := func() (*Change, error) {
		plans++
		if plans <= 2 {
			// Someone else is first, twice.
			other := NewChange("d")
			_, mod, _ := v.Prompt("d", "a")
			prompt(other, "a", mod)
			if _, err := w.write(t.Context(), other, Why{}); err != nil {
				return nil, err
			}
			c := NewChange("d")
			prompt(c, "a", mod)
			return c, nil
		}
		c := NewChange("d")
		_, mod, _ := v.Prompt("d", "a")
		prompt(c, "a", mod)
		return c, nil
	}
	if _, err := w.Retrying(t.Context(), Why{}, put); err != nil || plans != 3 {
		t.Errorf("%d plans: %v", plans, err)
	}
	always := func() (*Change, error) {
		c := NewChange("d")
		prompt(c, "a", 1) // never what it is
		return c, nil
	}
	if _, err := w.Retrying(t.Context(), Why{}, always); !errs.Is(err, errs.Conflict) {
		t.Errorf("raced for ever: %v", err)
	}
}

func TestNothingAndTooMuch(t *testing.T) {
	w, v := newWriter(t)
	before := v.Revision()
	rev, err := w.Retrying(t.Context(), Why{}, func() (*Change, error) { return NewChange("d"), nil })
	if err != nil || rev != 0 || v.Revision() != before {
		t.Errorf("nothing: revision %d, %v", rev, err)
	}
	_, err = w.Retrying(t.Context(), Why{}, func() (*Change, error) {
		c := NewChange("d")
		for i := range MaxHeads + 1 {
			prompt(c, fmt.Sprintf("p%d", i), 0)
		}
		return c, nil
	})
	if !errs.Is(err, errs.Precondition) || v.Revision() != before {
		t.Errorf("too much: %v", err)
	}
	if _, err := New(Config{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("nothing given: %v", err)
	}
}
