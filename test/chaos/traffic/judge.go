package traffic

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/stub"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// forget is how long what belongs to a request is remembered after its last sign.
const forget = 90 * time.Second

// Judge holds every request to one marker (P4). What the stubs saw is brought by Gather, what clients got by Answered; both may come
// first. It is safe for concurrent use.
type Judge struct {
	findings *report.Findings

	mu      sync.Mutex // guards what follows
	open    map[string]*seen
	configs map[string]int // agent + config -> marker
	known   map[string]int // agent + revision -> marker, as answers and acknowledged applies say
	judged  int
	calls   int
	tools   int
	// withdrawn are model calls that were offered no tool.
	withdrawn int
}

// seen is what is known of one request.
type seen struct {
	marker int // -1: none yet
	model  int
	tool   int
	last   time.Time
}

// NewJudge makes one.
func NewJudge(f *report.Findings) *Judge {
	return &Judge{findings: f, open: map[string]*seen{}, configs: map[string]int{}, known: map[string]int{}}
}

func (j *Judge) mixed(format string, args ...any) { j.findings.Violate("P4", format, args...) }

// request gives what is known of a request. j.mu is held.
func (j *Judge) request(id string, at time.Time) *seen {
	s := j.open[id]
	if s == nil {
		s = &seen{marker: -1}
		j.open[id] = s
	}
	s.last = at
	return s
}

// carries holds a request to marker k. j.mu is held.
func (j *Judge) carries(id string, s *seen, k int, what string) {
	if s.marker >= 0 && s.marker != k {
		j.mixed("request %s began on marker %d and its %s is of %d", id, s.marker, what, k)
	}
	s.marker = k
}

// Gather takes what the stubs saw since the last time.
func (j *Judge) Gather(w *world.World) {
	calls := w.Model.Take()
	var tools []harness.MCPCall
	for _, t := range w.Tools {
		tools = append(tools, t.TakeCalls()...)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	for _, c := range calls {
		j.model(c, now)
	}
	for _, c := range tools {
		j.tool(c, now)
		if key := c.Headers.Get("X-Key"); key != w.Canary {
			j.findings.Violate("P4", "a tool call without the agent's credential (%d bytes in its place)", len(key))
		}
	}
	for id, s := range j.open {
		if now.Sub(s.last) > forget {
			delete(j.open, id)
		}
	}
}

func (j *Judge) model(c stub.Call, now time.Time) {
	m := requestID.FindStringSubmatch(c.User)
	if m == nil {
		return // somebody else's
	}
	j.calls++
	k, err := markerOf(c.System, c.Temperature, c.Tools)
	switch {
	case errors.Is(err, errWithdrawn):
		j.withdrawn++
	case err != nil:
		j.mixed("request %s: %v", m[1], err)
		return
	}
	s := j.request(m[1], now)
	s.model++
	j.carries(m[1], s, k, "model call")
}

func (j *Judge) tool(c harness.MCPCall, now time.Time) {
	id, _ := c.Args["q"].(string)
	k, err := strconv.Atoi(c.Headers.Get("X-Number"))
	if err != nil {
		j.mixed("request %s: tool call with header X-Number %q", id, c.Headers.Get("X-Number"))
		return
	}
	j.tools++
	s := j.request(id, now)
	s.tool++
	j.carries(id, s, k, "tool call's header")
	if want := fmt.Sprintf("n%d", k%world.ToolNumbers); c.Tool != want {
		j.mixed("request %s on marker %d called %s, want %s", id, k, c.Tool, want)
	}
}

// Answered judges an answer that was not a failure.
func (j *Judge) Answered(agent, id string, a harness.Answer) {
	m := answerShape.FindStringSubmatch(a.Text)
	if m == nil || m[1] != id {
		j.mixed("request %s of %s was answered %q", id, agent, a.Text)
		return
	}
	k, err := strconv.Atoi(m[2])
	t, terr := strconv.ParseFloat(m[3], 64)
	if err != nil || terr != nil || math.Abs(t-Temperature(k)) > 1e-9 {
		j.mixed("request %s of %s was answered of marker %s with temperature %s", id, agent, m[2], m[3])
		return
	}
	revision, _, ok := strings.Cut(a.Config, "-")
	if !ok || revision != a.Revision {
		j.mixed("request %s of %s was answered by config %q, revision %q", id, agent, a.Config, a.Revision)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.carries(id, j.request(id, time.Now()), k, "answer")
	j.tied(j.configs, agent+" "+a.Config, k, "config")
	j.tied(j.known, agent+" "+a.Revision, k, "revision")
	j.judged++
}

// Acked says which marker a revision of an agent carries.
func (j *Judge) Acked(agent string, revision int64, marker int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tied(j.known, fmt.Sprintf("%s %d", agent, revision), marker, "revision")
}

// tied holds one name to one marker for ever. j.mu is held.
func (j *Judge) tied(m map[string]int, name string, k int, what string) {
	if was, ok := m[name]; ok && was != k {
		j.mixed("%s %s carries marker %d and marker %d", what, name, was, k)
	}
	m[name] = k
}

// Counts are what was judged.
type Counts struct {
	Answers    int `json:"answers"`
	ModelCalls int `json:"modelCalls"`
	ToolCalls  int `json:"toolCalls"`
	Configs    int `json:"configs"`
	// Withdrawn are the model calls that were offered no tool, because its server was away.
	Withdrawn int `json:"withdrawn"`
}

// Counts gives them.
func (j *Judge) Counts() Counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	return Counts{j.judged, j.calls, j.tools, len(j.configs), j.withdrawn}
}
