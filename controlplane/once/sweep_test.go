package once_test

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		w, err := once.NewSweeper(slog.New(slog.DiscardHandler), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		put := func(from, to int) {
			for i := from; i < to; i++ {
				if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: fmt.Sprintf("%s%04d/0000", view.OncePrefix, i)}, {Key: headKey}}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		sweep := func(left int) {
			t.Helper()
			if err := w.Sweep(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if n := count(t, s, view.OncePrefix); n != left {
				t.Fatalf("%d records left, want %d", n, left)
			}
		}
		put(0, 1234)
		sweep(1234)
		<-time.After(once.Keep - time.Minute)
		put(1234, 1300)
		sweep(1300)
		<-time.After(time.Minute)
		sweep(66)
		<-time.After(once.Keep)
		s.FailNext(errs.New(errs.Unavailable, "away"))
		if err := w.Sweep(t.Context(), s); !errs.Is(err, errs.Unavailable) {
			t.Fatalf("error %v", err)
		}
		sweep(0)
		if w.Swept() != 1300 || count(t, s, headKey) != 1 {
			t.Errorf("%d swept", w.Swept())
		}
	})
}
