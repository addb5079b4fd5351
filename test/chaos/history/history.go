// Package history follows the store from every member of etcd and the API's watches from every replica, and holds them to what a watch
// promises: in order, each once, all of it, and resumable. It knows what was really written, which acknowledged writes and the leader's
// fence are judged by.
package history

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
)

// releaser is the actor of the moves that only the leader may write.
const releaser = "releaser"

// leastDeadline is less than the default progress deadline, by the time that a watch may lag.
const leastDeadline = 50 * time.Second

// Store is the history of the store. It is safe for concurrent use.
type Store struct {
	world    *world.World
	findings *report.Findings

	mu       sync.Mutex     // guards what follows
	file     io.WriteCloser // every change, one line each
	revs     []rev          // ascending: what the first member to show it showed
	started  int64          // revisions up to it aren't known
	frontier int64
	leader   int64 // revision of the leader key; 0: nobody leads
	term     int64 // greatest seen in a move
	heads    map[string][]headEvent
	writes   map[string][]int64 // head key -> revisions that wrote it
	asked    map[string]time.Time
	said     map[string]int // message of a move -> how often it was written
	acks     []ack
	stats    Stats
}

// Stats counts.
type Stats struct {
	Revisions   int `json:"revisions"`
	Events      int `json:"events"`
	Moves       int `json:"moves"`
	LeaderMoves int `json:"leaderMoves"` // of them written within a term
	Terms       int `json:"terms"`       // how often somebody became the leader
	Acks        int `json:"acks"`        // acknowledged writes found in the store
	Messages    int `json:"messages"`    // moves told apart by their message, each written once
	Reopened    int `json:"reopened"`    // watches of members that were opened again
	Compacted   int `json:"compacted"`   // and had lost their place by a compaction
	APIEvents   int `json:"apiEvents"`
	APIResumed  int `json:"apiResumed"`
	APIRelisted int `json:"apiRelisted"`
}

type rev struct {
	revision int64
	sum      uint64
	events   int
}

type headEvent struct {
	revision int64
	key      string
}

type ack struct {
	revision int64
	key      string
	at       time.Time
}

// New makes a history that begins with what comes next.
func New(ctx context.Context, w *world.World, f *report.Findings) (*Store, error) {
	resp, err := w.Etcd().Get(ctx, view.LeaderKey)
	if err != nil {
		return nil, err
	}
	after, leader := resp.Header.Revision, int64(0)
	if len(resp.Kvs) > 0 {
		leader = resp.Kvs[0].ModRevision
	}
	file, err := os.OpenFile(filepath.Join(w.Dir, "etcd-history.jsonl"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	s := newStore(f, file, after)
	s.world, s.leader = w, leader
	return s, nil
}

func newStore(f *report.Findings, file io.WriteCloser, after int64) *Store {
	return &Store{
		findings: f, file: file, started: after, frontier: after,
		heads: map[string][]headEvent{}, writes: map[string][]int64{}, said: map[string]int{}, asked: map[string]time.Time{},
	}
}

// revision takes all events of one revision as a member showed them, and says whether they are what others showed.
func (s *Store) revision(member string, r int64, events []*mvccpb.Event) {
	h := fnv.New64a()
	for _, e := range events {
		_, _ = fmt.Fprintf(h, "%d %s %d %d ", e.Type, e.Kv.Key, e.Kv.CreateRevision, e.Kv.Version)
		_, _ = h.Write(e.Kv.Value)
	}
	sum := h.Sum64()
	s.mu.Lock()
	defer s.mu.Unlock()
	if r > s.frontier {
		s.frontier = r
		s.revs = append(s.revs, rev{r, sum, len(events)})
		s.stats.Revisions++
		for _, e := range events {
			s.event(r, e)
		}
		return
	}
	at, ok := slices.BinarySearchFunc(s.revs, r, func(x rev, r int64) int { return int(x.revision - r) })
	switch {
	case !ok:
		s.findings.Violate("watch", "%s shows revision %d, which the others passed over", member, r)
	case s.revs[at].sum != sum:
		s.findings.Violate("watch", "%s shows other changes at revision %d than another member (%d events, %d)", member, r, len(events), s.revs[at].events)
	}
}

// between counts the known revisions above a and below b.
func (s *Store) between(a, b int64) (n int, first int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.revs, a+1, func(x rev, r int64) int { return int(x.revision - r) })
	for ; i < len(s.revs) && s.revs[i].revision < b; i++ {
		if n == 0 {
			first = s.revs[i].revision
		}
		n++
	}
	return n, first
}

// event takes one change for the first time. s.mu is held.
func (s *Store) event(r int64, e *mvccpb.Event) {
	s.stats.Events++
	key := string(e.Kv.Key)
	s.write(r, e, key)
	deleted := e.Type == mvccpb.Event_DELETE
	switch {
	case key == view.LeaderKey && deleted:
		s.leader = 0
	case key == view.LeaderKey:
		s.leader = r
		s.stats.Terms++
	case strings.HasPrefix(key, view.HeadsPrefix) && !deleted:
		kind, _, _ := strings.Cut(strings.TrimPrefix(key, view.HeadsPrefix), "/")
		s.heads[kind] = append(s.heads[kind], headEvent{r, key})
		s.writes[key] = append(s.writes[key], r)
	case strings.HasPrefix(key, view.MovePrefix) && !deleted && e.Kv.Version == 1:
		s.move(r, key, e.Kv.Value)
	}
}

// write keeps the change without its value. s.mu is held.
func (s *Store) write(r int64, e *mvccpb.Event, key string) {
	line, err := json.Marshal(struct {
		Revision int64  `json:"rev"`
		Type     string `json:"type"`
		Key      string `json:"key"`
		Bytes    int    `json:"bytes,omitempty"`
	}{r, e.Type.String(), key, len(e.Kv.Value)})
	if err == nil {
		_, err = s.file.Write(append(line, '\n'))
	}
	if err != nil {
		s.findings.Violate("harness", "write the store's history: %v", err)
	}
}

// move judges a move record: who leads writes within its term, which is the revision at which it took the lead, and terms only grow.
func (s *Store) move(r int64, key string, value []byte) {
	var m view.MoveRecord
	if err := json.Unmarshal(value, &m); err != nil {
		s.findings.Violate("fence", "move %s can't be read: %v", key, err)
		return
	}
	s.stats.Moves++
	if m.Message != "" && m.Actor != releaser {
		s.said[m.Message]++
		s.stats.Messages++
		if n := s.said[m.Message]; n > 1 {
			s.findings.Violate("once", "%q was written %d times, now at revision %d", m.Message, n, r)
		}
	}
	s.early(r, m)
	if m.Actor != releaser {
		return
	}
	s.stats.LeaderMoves++
	switch {
	case m.Term == 0:
		s.findings.Violate("fence", "the releaser's move at revision %d carries no term", r)
	case s.leader != 0 && m.Term != s.leader, s.leader == 0 && s.term != 0:
		s.findings.Violate("fence", "the releaser's move at revision %d is of term %d, but the leader then was of %d", r, m.Term, s.leader)
	case m.Term < s.term:
		s.findings.Violate("fence", "the releaser's move at revision %d is of term %d, after one of %d", r, m.Term, s.term)
	}
	s.term = max(s.term, m.Term)
}

// early holds the releaser to time that passed: what it gives up for the progress deadline was asked for that long ago, whatever clocks
// say (P12). s.mu is held.
func (s *Store) early(r int64, m view.MoveRecord) {
	for _, h := range m.Heads {
		key := view.HeadKey(h.Kind, h.Namespace, h.Name)
		if m.Actor != releaser {
			s.asked[key] = time.Now()
			continue
		}
		at, known := s.asked[key]
		if passed := time.Since(at); known && strings.Contains(m.Message, "progress deadline") && passed < leastDeadline {
			s.findings.Violate("P12", "%s %s is given up at revision %d, %s after it was asked for: %s", h.Kind, h.Name, r, passed.Round(time.Millisecond), m.Message)
		}
	}
}

// Acked takes an acknowledged write, which must be in the store.
func (s *Store) Acked(revision int64, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acks = append(s.acks, ack{revision, key, time.Now()})
}

// Written tells how often a move with a message was written.
func (s *Store) Written(message string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said[message]
}

// Settle judges the acknowledged writes up to the newest revision that is known; with all, every one of them must be known.
func (s *Store) Settle(all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := s.acks[:0]
	for _, a := range s.acks {
		_, found := slices.BinarySearch(s.writes[a.key], a.revision)
		switch {
		case found:
			s.stats.Acks++
		case a.revision <= s.started:
		case a.revision > s.frontier && !all:
			keep = append(keep, a)
		default:
			s.findings.Violate("P1", "an acknowledged write of %s at revision %d isn't in the store (which is at %d)", a.key, a.revision, s.frontier)
		}
	}
	s.acks = keep
}

// Frontier is the newest revision that is known.
func (s *Store) Frontier() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frontier
}

// Stats gives the counts so far.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close closes the file.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.Close()
}
