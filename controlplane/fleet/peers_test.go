package fleet

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/phase"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// Each file of testdata/peers is a story of several replicas: lines with ">" are what happens, the others what comes of it.
//
//	replicas a b      the replicas; they are greeted, registered and linked in both directions
//	clock b +1h       how wrong a replica's clock is
//	at 5s             the time since the start; the tables tick
//	hello a i [h..]   instance i opens a stream at a; it says that it refused the configs h
//	offer a i 2       a offers it config 2
//	applied a i 2     it answers
//	refused a i 2
//	beat a i
//	lost a i, stop a i
//	flow [b a]        every link delivers what is pending, or b hears what a has to tell
//	cut b a, link b a b doesn't hear a any more, or hears it (again)
//	alone b a..       the replicas that b sees registered beside itself
//	show              what every replica knows
//	complete          who knows the whole fleet
func TestPeers(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/peers/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := tellStory(t, string(want))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s now is (go test -update, then look at the difference):\n%s", f, got)
			}
		})
	}
}

// story is several tables with the links between them.
type story struct {
	t      *testing.T
	out    bytes.Buffer
	now    time.Time
	names  []string
	tables map[string]*Table
	skews  map[string]time.Duration
	links  map[string]*Export // "to from"
	keys   map[string]Key     // "replica instance"
}

func tellStory(t *testing.T, text string) string {
	t.Helper()
	s := &story{
		t: t, now: start.Add(time.Hour), tables: map[string]*Table{}, skews: map[string]time.Duration{}, links: map[string]*Export{}, keys: map[string]Key{},
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			s.out.WriteString(line)
		}
		if command, ok := strings.CutPrefix(line, "> "); ok {
			s.out.WriteString(line)
			f := strings.Fields(command)
			s.do(f[0], f[1:])
		}
	}
	return s.out.String()
}

func (s *story) clock(replica string) time.Time { return s.now.Add(s.skews[replica]) }

func (s *story) do(what string, args []string) {
	s.t.Helper()
	switch what {
	case "replicas":
		s.replicas(args)
	case "clock":
		s.skews[args[0]] = s.duration(args[1])
	case "at":
		s.now = start.Add(time.Hour).Add(s.duration(args[0]))
		for _, r := range s.names {
			s.tables[r].Tick(s.clock(r))
		}
	case "flow":
		s.flow(args)
	case "cut":
		s.links[args[0]+" "+args[1]].Close()
		delete(s.links, args[0]+" "+args[1])
		s.tables[args[0]].LinkLost(args[1], s.clock(args[0]))
	case "link":
		s.links[args[0]+" "+args[1]] = s.tables[args[1]].Export()
	case "alone":
		s.tables[args[0]].Peers(args[1:], s.clock(args[0]))
	case "show":
		for _, r := range s.names {
			s.show(r)
		}
	case "complete":
		for _, r := range s.names {
			fmt.Fprintf(&s.out, "%s %t\n", r, s.tables[r].Complete(s.clock(r)))
		}
	default:
		s.instance(what, args[0], args[1], args[2:])
	}
}

func (s *story) duration(text string) time.Duration {
	s.t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *story) replicas(names []string) {
	s.t.Helper()
	for _, r := range names {
		tb, err := New(Config{Started: s.clock(r), Greeted: true, Replica: r})
		if err != nil {
			s.t.Fatal(err)
		}
		s.tables[r] = tb
		s.names = append(s.names, r)
	}
	for _, to := range s.names {
		s.tables[to].Peers(s.names, s.clock(to))
		for _, from := range s.names {
			if k := to + " " + from; to != from && s.links[k] == nil {
				s.links[k] = s.tables[from].Export()
			}
		}
	}
}

func (s *story) instance(what, replica, id string, more []string) {
	s.t.Helper()
	tb, now, at := s.tables[replica], s.clock(replica), replica+" "+id
	k := s.keys[at]
	config := func() Ref {
		n, err := strconv.ParseInt(more[0], 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		return ref(n, more[0])
	}
	switch what {
	case "hello":
		h := Hello{ID: snapshot.InstanceID{Namespace: "ns", Agent: "a", Instance: id}, Version: "v1"}
		for range more {
			h.Refusals = append(h.Refusals, Refusal{Token: config().Token, Version: "v1"})
			more = more[1:]
		}
		g := tb.Hello(h, now)
		s.keys[at] = g.Key
		if g.Takeovers > 0 {
			fmt.Fprintf(&s.out, "takeover %d\n", g.Takeovers)
		}
	case "offer":
		if tb.Offer(k, Offer{Desired: config()}, now) {
			fmt.Fprintln(&s.out, "withheld")
		}
	case "applied":
		tb.Report(k, Report{Phase: phase.Applied, Desired: config().Token, Running: config()}, now)
	case "refused":
		tb.Report(k, Report{Phase: phase.Rejected, Desired: config().Token}, now)
	case "beat":
		tb.Beat(k, tb.live(k).inst.Running, phase.Live, now)
	case "lost":
		tb.Leave(k, Lost, now)
	case "stop":
		tb.Leave(k, Stopped, now)
	default:
		s.t.Fatalf("no such command: %s", what)
	}
}

// flow delivers what is pending, until nothing is.
func (s *story) flow(only []string) {
	s.t.Helper()
	for range 4 { // what is heard changes what there is to tell
		for _, link := range slices.Sorted(maps.Keys(s.links)) {
			to, from, _ := strings.Cut(link, " ")
			if len(only) == 0 || only[0] == to && only[1] == from {
				s.deliver(to, from)
			}
		}
	}
}

func (s *story) deliver(to, from string) {
	s.t.Helper()
	d, more, err := s.links[to+" "+from].Take(100, s.clock(from))
	if err != nil || more {
		s.t.Fatalf("take: %t %v", more, err)
	}
	d.Synced = true
	slices.SortFunc(d.Upserts, func(a, b Told) int { return strings.Compare(a.ID.Instance, b.ID.Instance) })
	shift := s.skews[to] - s.skews[from]
	for i := range d.Upserts {
		u := &d.Upserts[i]
		for _, at := range []*time.Time{&u.Since, &u.Seen, &u.Offered} {
			if !at.IsZero() {
				*at = at.Add(shift)
			}
		}
	}
	for _, k := range s.tables[to].Heard(from, d, s.clock(to)) {
		fmt.Fprintf(&s.out, "%s ends its stream of %s\n", to, k.ID.Instance)
		s.tables[to].Leave(k, Lost, s.clock(to))
	}
}

func (s *story) show(replica string) {
	s.t.Helper()
	all := s.tables[replica].All()
	if len(all) == 0 {
		fmt.Fprintf(&s.out, "%s: nobody\n", replica)
	}
	own := map[string]bool{}
	for _, i := range s.tables[replica].Own() {
		own[i.ID.Instance] = true
	}
	for _, i := range all {
		connected := "connected"
		if !i.Connected {
			connected = "away"
		}
		fmt.Fprintf(&s.out, "%s: %s at %s %s %s", replica, i.ID.Instance, i.Replica, connected, i.Phase)
		if !i.Running.Token.IsZero() {
			fmt.Fprintf(&s.out, " runs %d", i.Running.Revision)
		}
		if age := s.clock(replica).Sub(i.Seen); age != 0 {
			fmt.Fprintf(&s.out, " seen %s ago", age)
		}
		if len(i.Refused) > 0 {
			fmt.Fprintf(&s.out, " refused %d", len(i.Refused))
		}
		if i.Takeovers > 0 {
			fmt.Fprintf(&s.out, " takeovers %d", i.Takeovers)
		}
		if own[i.ID.Instance] {
			fmt.Fprint(&s.out, " own")
		}
		fmt.Fprintln(&s.out)
	}
}
