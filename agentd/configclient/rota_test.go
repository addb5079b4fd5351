package configclient

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

func TestRota(t *testing.T) {
	given := []string{"a", "b", "c"}
	first := map[string]bool{}
	for range 200 {
		r := newRota(given)
		last := ""
		for round := range 4 {
			var seen []string
			for range given {
				at := r.take()
				if at == last {
					t.Fatalf("%s twice in a row", at)
				}
				last = at
				seen = append(seen, at)
			}
			if round == 0 {
				first[seen[0]] = true
			}
			if slices.Sort(seen); !slices.Equal(seen, given) {
				t.Fatalf("a round went to %v", seen)
			}
		}
	}
	if len(first) != len(given) {
		t.Errorf("all of 200 began at %v", first)
	}
	if !slices.Equal(given, []string{"a", "b", "c"}) {
		t.Errorf("the list that was given is %v now", given)
	}
	alone := newRota([]string{"a"})
	if alone.take()+alone.take() != "aa" {
		t.Error("one address alone isn't taken again")
	}
}

// After a failed dial, a broken stream and a Goaway the next replica is another one, and the Goaway's wait is kept.
func TestTheNextReplicaIsAnother(t *testing.T) {
	f := newFakeServer(t)
	dialled := make(chan string, 16)
	st, err := OpenState(StateConfig{Dir: t.TempDir(), Namespace: "default", Agent: "helper", Persist: PersistSealed})
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{
		Namespace: "default", Agent: "helper", Version: testVersion, Addresses: []string{"one", "two", "three"}, State: st, Applier: newFakeApplier(), Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, address string) (Conn, error) {
			dialled <- address
			return f.dial(ctx, address)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.pace.connectMin, c.pace.connectMax = time.Millisecond, 20*time.Millisecond
	f.setFail(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	last := ""
	another := func(what string) {
		t.Helper()
		select {
		case at := <-dialled:
			if at == last {
				t.Errorf("%s: %s again", what, at)
			}
			last = at
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: nothing was dialled", what)
		}
	}
	for range 5 {
		another("refused")
	}
	f.setFail(false)
	stream := f.accept(t, "c")
	for len(dialled) > 0 {
		last = <-dialled
	}
	stream.end <- context.Canceled
	another("broken")
	stream = f.accept(t, "c")
	const wait = 50 * time.Millisecond
	began := time.Now()
	stream.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Goaway{Goaway: &pushv1.Goaway{Reason: "rebalance", RetryAfter: durationpb.New(wait)}}})
	another("sent away")
	if since := time.Since(began); since < wait {
		t.Errorf("back after %s, asked for %s", since, wait)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}
