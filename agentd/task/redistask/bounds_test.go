package redistask_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/task/redistask"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/test/harness"
)

func begun(s *redistask.Store, id string) task.Record {
	r := task.Record{
		Owner: task.Owner{Namespace: "default", Agent: "a", Principal: "ann@example.com"},
		Task:  task.Task{ID: id, ContextID: "holiday", Status: task.Status{State: task.Working, At: task.At(time.Now())}},
	}
	if s != nil {
		r.Keeper = s.Self()
	}
	return r
}

func create(t *testing.T, s *redistask.Store, r task.Record) task.Ref {
	t.Helper()
	if _, err := s.Create(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r.Ref()
}

func tell(ctx context.Context, s *redistask.Store, ref task.Ref, events ...task.Event) error {
	_, err := s.Update(ctx, ref, func(*task.Record) ([]task.Event, error) { return events, nil })
	return err
}

func status(s task.State) task.Event {
	return task.Event{Status: &task.Status{State: s, At: task.At(time.Now())}}
}

func piece(text string) task.Event {
	return task.Event{Chunk: &task.Chunk{Artifact: task.Artifact{ID: "a", Parts: []task.Part{{Kind: task.Text, Text: text}}}, Append: true, Merge: true}}
}

// everything uses each method once.
func everything(ctx context.Context, s *redistask.Store, id string) error {
	r := begun(s, id)
	if _, err := s.Create(ctx, r); err != nil {
		return err
	}
	_, f, err := s.Watch(ctx, r.Ref())
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tell(ctx, s, r.Ref(), piece("x"), piece(strings.Repeat("y", 20_000)), status(task.InputRequired)); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for range 3 {
		if _, err := f.Next(waiting); err != nil {
			return err
		}
	}
	_, read := s.Get(ctx, r.Ref())
	page, listed := s.List(ctx, task.Filter{Owner: r.Owner, Context: "holiday", State: task.InputRequired, Since: time.Now().Add(-time.Hour), Limit: 10})
	if listed == nil && page.Total == 0 {
		return errors.New("nothing is listed")
	}
	_, _, kept := s.Kept(ctx, "", 10)
	_, orphans := s.Orphans(ctx, 10)
	return errors.Join(read, listed, kept, orphans, tell(ctx, s, r.Ref(), status(task.Completed)))
}

// A user limited to the agent's keys and to the documented commands can do everything; every key has an end, and none tells who asked.
func TestLimitedUser(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{ACL: []string{harness.RedisACL("helper", "s3cret", "default", "a")}})
	const credential = `{"username":"helper","password":"s3cret"}`
	s := open(t, redistask.Config{Client: client(t, server, "a", credential), MaxTasks: 4})
	for i := range 6 {
		if err := everything(t.Context(), s, fmt.Sprint("t", i)); err != nil {
			t.Fatal(err)
		}
	}
	other := open(t, redistask.Config{Client: client(t, server, "a", credential)})
	ref := create(t, s, begun(s, "kept"))
	if err := tell(t.Context(), other, ref, status(task.Canceled)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Ended(t.Context()); err != nil || got != ref {
		t.Errorf("%v, %v", got, err)
	}
	create(t, other, begun(other, "open"))
	keys, err := server.Keys(t.Context())
	if err != nil || len(keys) < 10 {
		t.Fatal(keys, err)
	}
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	for _, k := range keys {
		if !strings.HasPrefix(k, "agentry:{default:a}:") || strings.Contains(k, "ann") || strings.Contains(k, "holiday") {
			t.Errorf("key %s", k)
		}
		if ttl := admin.TTL(t.Context(), k).Val(); ttl <= 0 || ttl > 8*24*time.Hour {
			t.Errorf("key %s ends in %s", k, ttl)
		}
	}
	stranger := open(t, redistask.Config{Client: client(t, server, "b", credential)})
	if _, err := stranger.Create(t.Context(), begun(stranger, "x")); !errs.Is(err, errs.Unavailable) {
		t.Errorf("another agent's keys: %v", err)
	}
}

func TestTerminalTasksGoWhenTheirTimeIsOver(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	s := open(t, redistask.Config{Client: client(t, server, "a", ""), TTL: 300 * time.Millisecond})
	over, under := create(t, s, begun(s, "over")), create(t, s, begun(s, "under"))
	if err := tell(t.Context(), s, over, status(task.Completed)); err != nil {
		t.Fatal(err)
	}
	// what comes afterwards doesn't keep it longer
	for end := time.Now().Add(10 * time.Second); ; {
		_, err := s.Update(t.Context(), over, func(r *task.Record) ([]task.Event, error) { r.Turns++; return nil, nil })
		if errs.Is(err, errs.NotFound) {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("it is there still: %v", err)
		}
	}
	if _, err := s.Get(t.Context(), under); err != nil {
		t.Errorf("one that is under way: %v", err)
	}
	p, err := s.List(t.Context(), task.Filter{Owner: over.Owner, Limit: 10})
	if err != nil || p.Total != 1 || p.Records[0].Task.ID != "under" {
		t.Errorf("listed: %+v, %v", p, err)
	}
}

// An open task that nothing happens to goes too, and who watches it is told.
func TestForgottenTasks(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	s := open(t, redistask.Config{Client: client(t, server, "a", ""), OpenTTL: 300 * time.Millisecond})
	ref := create(t, s, begun(s, "t"))
	_, f, err := s.Watch(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := f.Next(ctx); !errs.Is(err, errs.NotFound) {
		t.Errorf("who watches is told %v", err)
	}
	if err := tell(t.Context(), s, ref, status(task.Working)); !errs.Is(err, errs.NotFound) {
		t.Errorf("a change: %v", err)
	}
	if got, _, err := s.Kept(t.Context(), "", 10); err != nil || len(got) != 0 {
		t.Errorf("kept: %v, %v", got, err)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	s := open(t, redistask.Config{Client: client(t, server, "a", ""), MaxTasks: 3, Bounds: task.Bounds{Bytes: 100_000}})
	var refs []task.Ref
	for i := range 3 {
		refs = append(refs, create(t, s, begun(s, fmt.Sprint(i))))
	}
	if _, err := s.Create(t.Context(), begun(s, "3")); !errs.Is(err, errs.Exhausted) {
		t.Errorf("one task too many: %v", err)
	}
	for _, i := range []int{2, 1} {
		if err := tell(t.Context(), s, refs[i], status(task.Failed)); err != nil {
			t.Fatal(err)
		}
	}
	create(t, s, begun(s, "3"))
	for i, there := range []bool{true, true, false} { // the one that ended first goes
		if _, err := s.Get(t.Context(), refs[i]); there != (err == nil) || !there && !errs.Is(err, errs.NotFound) {
			t.Errorf("task %d: %v", i, err)
		}
	}
	if err := tell(t.Context(), s, refs[0], piece(strings.Repeat("x", 200_000))); !errs.Is(err, errs.Exhausted) {
		t.Errorf("a task that is too large: %v", err)
	}
	if err := tell(t.Context(), s, refs[0], status(task.Failed)); err != nil {
		t.Errorf("and then its end: %v", err)
	}
	large := begun(s, "large")
	large.Task.History = []task.Message{{Parts: []task.Part{{Raw: make([]byte, 200_000)}}}}
	if _, err := s.Create(t.Context(), large); !errs.Is(err, errs.Exhausted) {
		t.Errorf("a new one that is too large: %v", err)
	}
}

func TestBytesOfAllTasks(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	s := open(t, redistask.Config{Client: client(t, server, "a", ""), MaxBytes: 100_000})
	a, b := create(t, s, begun(s, "a")), create(t, s, begun(s, "b"))
	for _, ref := range []task.Ref{a, b} {
		if err := tell(t.Context(), s, ref, piece(strings.Repeat("x", 45_000))); err != nil {
			t.Fatal(err)
		}
	}
	if err := tell(t.Context(), s, b, piece(strings.Repeat("x", 20_000))); !errs.Is(err, errs.Exhausted) {
		t.Errorf("too many bytes: %v", err)
	}
	if err := tell(t.Context(), s, a, status(task.Completed)); err != nil {
		t.Errorf("an end needs no room: %v", err)
	}
	if err := tell(t.Context(), s, b, piece(strings.Repeat("x", 20_000))); err != nil {
		t.Errorf("the terminal one makes no room: %v", err)
	}
	if _, err := s.Get(t.Context(), a); !errs.Is(err, errs.NotFound) {
		t.Errorf("the terminal one is there: %v", err)
	}
}

// Whatever was in a task comes back as it was: any text, any JSON, bytes, pieces in any number.
func TestWhatIsKeptComesBack(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t, harness.RedisOptions{})
	s, other := open(t, redistask.Config{Client: client(t, server, "a", "")}), open(t, redistask.Config{Client: client(t, server, "a", "")})
	r := begun(s, "t")
	r.Task.Metadata = []byte(`{"n":12345678901234567890.5,"s":"<&>"}`)
	ref := create(t, s, r)
	odd := "\u2028<b>&amp;\x00\x1b日本 \U0001F600"
	if err := tell(t.Context(), s, ref, task.Event{Chunk: &task.Chunk{Last: true, Artifact: task.Artifact{ID: "d", Name: odd, Metadata: []byte(`{}`), Parts: []task.Part{
		{Kind: task.Data, Data: []byte(`null`)}, {Kind: task.Data, Data: []byte(`[1e400,"</script>"]`)}, {Kind: task.Raw, Raw: []byte{0, 255}, Filename: "f"},
	}}}}); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 3000 {
		text := fmt.Sprint(i, odd)
		want.WriteString(text)
		if err := tell(t.Context(), s, ref, piece(text)); err != nil {
			t.Fatal(err)
		}
		if i%500 != 17 {
			continue
		}
		own, err := s.Update(t.Context(), ref, func(*task.Record) ([]task.Event, error) { return nil, nil })
		if err != nil {
			t.Fatal(err)
		}
		same(t, other, own)
	}
	own, err := s.Update(t.Context(), ref, func(*task.Record) ([]task.Event, error) { return []task.Event{status(task.Completed)}, nil })
	if err != nil || own.Task.Artifacts[1].Parts[0].Text != want.String() {
		t.Fatalf("not what was told, %v", err)
	}
	same(t, other, own)
}
