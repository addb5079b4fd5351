package turnstile_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/turnstile"
	"github.com/agentry/agentry/internal/errs"
)

// Whoever came first is in first; who gave up is passed over, also where that happens at the moment of its turn.
func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var gate turnstile.Turnstile
		k := memory.Key{Session: "s"}
		leave, err := gate.Enter(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []int
		for i := range memory.MaxWaiting {
			ctx, cancel := context.WithCancel(t.Context())
			if i%3 == 1 { // these give up while they wait
				ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
			}
			go func() {
				defer cancel()
				leave, err := gate.Enter(ctx, k)
				if err != nil {
					if !errs.Is(err, errs.Timeout) || i%3 != 1 {
						t.Errorf("%d: %v", i, err)
					}
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				leave()
				leave()
			}()
			synctest.Wait()
		}
		if _, err := gate.Enter(t.Context(), k); !errs.Is(err, errs.Exhausted) {
			t.Errorf("one more than may wait: %v", err)
		}
		time.Sleep(2 * time.Minute) //nolint:forbidigo // the bubble's clock
		leave()
		synctest.Wait()
		if !slices.IsSorted(order) || len(order) != memory.MaxWaiting-11 {
			t.Errorf("%d were in: %v", len(order), order)
		}
		again, err := gate.Enter(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		again()
	})
}

// No turn is lost between one who gives up and the one who leaves at the same moment.
func TestGivingUpRaces(t *testing.T) {
	t.Parallel()
	var gate turnstile.Turnstile
	k := memory.Key{Session: "s"}
	for range 500 {
		leave, err := gate.Enter(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if leave, err := gate.Enter(ctx, k); err == nil {
				leave()
			}
		})
		wg.Go(cancel)
		wg.Go(leave)
		wg.Wait()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	leave, err := gate.Enter(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	leave()
}
