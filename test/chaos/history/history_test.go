package history

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/test/chaos/report"
)

type discard struct{ io.Writer }

func (discard) Close() error { return nil }

func put(rev int64, key, value string) *clientv3.Event {
	return &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(key), Value: []byte(value), ModRevision: rev, CreateRevision: rev, Version: 1}}
}

func gone(rev int64, key string) *clientv3.Event {
	return &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: rev}}
}

func move(rev int64, actor string, term int64, message string) *clientv3.Event {
	b, err := json.Marshal(view.MoveRecord{Actor: actor, Term: term, Message: message})
	if err != nil {
		panic(err)
	}
	return put(rev, view.MoveKey("default", fmt.Sprint(rev)), string(b))
}

// found gives the properties that were violated, in order, without repeats.
func found(f *report.Findings) string {
	var out []string
	all, _ := f.All()
	for _, x := range all {
		if len(out) == 0 || out[len(out)-1] != x.Property {
			out = append(out, x.Property)
		}
	}
	return strings.Join(out, " ")
}

func TestMembersShowTheSame(t *testing.T) {
	head := view.HeadKey("agent", "default", "a")
	type shown struct {
		member string
		after  int64
		events []*clientv3.Event
	}
	all := []*clientv3.Event{put(11, head, "1"), put(11, "/agentry/blob/x", "x"), put(12, head, "2"), put(14, head, "3")}
	cases := map[string]struct {
		shown []shown
		want  string
	}{
		"the same":                      {shown: []shown{{"a", 10, all}, {"b", 10, all}}},
		"in pieces":                     {shown: []shown{{"a", 10, all[:3]}, {"b", 10, all}, {"a", 12, all[3:]}}},
		"one after the other":           {shown: []shown{{"a", 10, all[:2]}, {"b", 10, all}}},
		"a revision passed over":        {shown: []shown{{"a", 10, all}, {"b", 10, append(all[:2:2], all[3])}}, want: "watch"},
		"passed over by the first":      {shown: []shown{{"a", 10, append(all[:2:2], all[3])}, {"b", 10, all}}, want: "watch"},
		"another value":                 {shown: []shown{{"a", 10, all}, {"b", 10, []*clientv3.Event{put(11, head, "1"), put(11, "/agentry/blob/x", "y")}}}, want: "watch"},
		"part of a revision":            {shown: []shown{{"a", 10, all}, {"b", 10, all[:1]}}, want: "watch"},
		"going back":                    {shown: []shown{{"a", 12, all[:2]}}, want: "watch"},
		"one key twice at one revision": {shown: []shown{{"a", 10, []*clientv3.Event{put(11, head, "1"), put(11, head, "2")}}}, want: "watch"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := &report.Findings{}
			s := newStore(f, discard{io.Discard}, 10)
			for _, x := range c.shown {
				s.take(x.member, x.after, x.events)
			}
			if got := found(f); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestMovesAreOfTheLeadersTerm(t *testing.T) {
	cases := map[string]struct {
		events []*clientv3.Event
		want   string
	}{
		"of the leader":               {events: []*clientv3.Event{put(11, view.LeaderKey, "a"), move(12, releaser, 11, "")}},
		"of a person":                 {events: []*clientv3.Event{move(12, "ann", 0, "")}},
		"of the next leader":          {events: []*clientv3.Event{put(11, view.LeaderKey, "a"), move(12, releaser, 11, ""), gone(13, view.LeaderKey), put(14, view.LeaderKey, "b"), move(15, releaser, 14, "")}},
		"of a deposed leader":         {events: []*clientv3.Event{put(11, view.LeaderKey, "a"), move(12, releaser, 11, ""), gone(13, view.LeaderKey), put(14, view.LeaderKey, "b"), move(15, releaser, 11, "")}, want: "fence"},
		"while nobody leads":          {events: []*clientv3.Event{put(11, view.LeaderKey, "a"), move(12, releaser, 11, ""), gone(13, view.LeaderKey), move(14, releaser, 11, "")}, want: "fence"},
		"without a term":              {events: []*clientv3.Event{move(12, releaser, 0, "")}, want: "fence"},
		"one message written once":    {events: []*clientv3.Event{move(12, "ann", 0, "x"), move(13, "ann", 0, "y")}},
		"one message written twice":   {events: []*clientv3.Event{move(12, "ann", 0, "x"), move(13, "ann", 0, "x")}, want: "once"},
		"no leader was ever seen yet": {events: []*clientv3.Event{move(12, releaser, 5, "")}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := &report.Findings{}
			s := newStore(f, discard{io.Discard}, 10)
			s.take("a", 10, c.events)
			if got := found(f); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestAcknowledgedWritesAreThere(t *testing.T) {
	head := view.HeadKey("agent", "default", "a")
	for name, c := range map[string]struct {
		revision int64
		all      bool
		want     string
	}{
		"there": {revision: 11}, "not there": {revision: 12, want: "P1"},
		"not known yet": {revision: 99}, "never known": {revision: 99, all: true, want: "P1"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &report.Findings{}
			s := newStore(f, discard{io.Discard}, 10)
			s.take("a", 10, []*clientv3.Event{put(11, head, "1"), put(13, "/agentry/blob/x", "")})
			s.Acked(c.revision, head)
			s.Settle(c.all)
			if got := found(f); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestAPIWatchesShowEveryChangeOnce(t *testing.T) {
	key := func(name string) string { return view.HeadKey("agent", "default", name) }
	written := []*clientv3.Event{put(11, key("a"), "1"), put(11, key("b"), "1"), put(12, key("a"), "2"), put(13, view.HeadKey("mcp", "default", "m"), ""), put(14, key("b"), "")}
	at := func(rev int64, name string) headEvent { return headEvent{rev, key(name)} }
	all := []headEvent{at(11, "a"), at(11, "b"), at(12, "a"), at(14, "b")}
	cases := map[string]struct {
		came []headEvent
		want string
	}{
		"all of it":                   {came: all},
		"the other way at a revision": {came: []headEvent{all[1], all[0], all[2], all[3]}},
		"one missing":                 {came: []headEvent{all[0], all[1], all[3]}, want: "watch"},
		"half a revision":             {came: []headEvent{all[0], all[2], all[3]}, want: "watch"},
		"one twice":                   {came: []headEvent{all[0], all[1], all[2], all[2], all[3]}, want: "watch"},
		"one that nobody wrote":       {came: []headEvent{all[0], all[1], all[2], at(13, "a"), all[3]}, want: "watch"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := &report.Findings{}
			s := newStore(f, discard{io.Discard}, 10)
			s.take("x", 10, written)
			w := &apiWatch{store: s, kind: "agent", name: "it", came: 10, after: 14, waited: c.came}
			w.judge()
			if got := found(f); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}
