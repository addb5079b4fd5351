package mutation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/test/chaos/failpoint"
	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// agentName is the one agent of a lab, with one instance.
const agentName = "alpha"

// lab is the smallest world that a scenario can be played in.
type lab struct {
	world    *world.World
	findings *report.Findings
	mutation Mutation
	mutated  bool
}

func (m Mutation) open(ctx context.Context, c Config, mutated bool) (*lab, error) {
	w, err := world.Start(ctx, world.Options{
		Bin: c.Bin, Root: c.Root, Base: c.Base, Etcds: 1, Planes: max(1, m.planes), Agents: []world.Agent{{Name: agentName, Instances: 1}},
		Failpoints: true, Logf: func(string, ...any) {},
	})
	if err != nil {
		return nil, err
	}
	l := &lab{world: w, findings: &report.Findings{}, mutation: m, mutated: mutated}
	if err := l.begin(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// begin brings the fleet to marker 1.
func (l *lab) begin(ctx context.Context) error {
	if err := l.apply(ctx, 1); err != nil {
		return err
	}
	if err := l.world.StartAgents(ctx); err != nil {
		return err
	}
	return l.reaches(ctx, 1, 10*time.Second)
}

func (l *lab) close() {
	l.world.Stop()
	_ = os.RemoveAll(l.world.Dir)
}

// mutate arms the mutation's points, when this is the mutated run.
func (l *lab) mutate(ctx context.Context) error {
	if !l.mutated {
		return nil
	}
	for p, t := range l.mutation.points {
		if err := l.arm(ctx, p, t); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) arm(ctx context.Context, p point, t term) error {
	for _, n := range l.nodes(p.kind) {
		if err := (failpoint.Door{Addr: n.Failpoints}).Arm(ctx, p.name, string(t)); err != nil {
			return err
		}
	}
	return nil
}

// passed is an error for a point that nobody passed: then the mutation changed nothing.
func (l *lab) passed(ctx context.Context, points map[point]term) error {
	for p := range points {
		var times int64
		for _, n := range l.nodes(p.kind) {
			k, err := (failpoint.Door{Addr: n.Failpoints}).Count(ctx, p.name)
			if err != nil {
				return err
			}
			times += k
		}
		if times == 0 {
			return fmt.Errorf("failpoint %s was armed and never passed", p.name)
		}
	}
	return nil
}

func (l *lab) nodes(k world.Kind) []*world.Node {
	switch k {
	case world.Plane:
		return l.world.Planes
	case world.Agentd:
		return l.world.Agents
	default:
		return l.world.Etcds
	}
}

func (l *lab) agentd() *world.Node { return l.world.Agents[0] }

// apply writes the agent with everything that carries a marker carrying this one: prompt and temperature.
func (l *lab) apply(ctx context.Context, marker int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req := &specv1.ApplyRequest{}
	for path, text := range map[string]string{
		agentName + "/agent-base.json":   fmt.Sprintf(`{"promptKey": %q, "description": "marker %d"}`, agentName, marker),
		agentName + "/model.json":        fmt.Sprintf(`{"model": "scripted", "temperature": %s}`, temperature(marker)),
		agentName + "/mcp-servers.json":  `{"mcpServers": [{"mcpServerName": "numbers-a", "tools": {"allow": ["n1"]}}]}`,
		"prompts/" + agentName + ".json": fmt.Sprintf(`{"promptKey": %q, "version": "1.0.%d", "template": "marker %d"}`, agentName, marker, marker),
		"mcp/numbers-a.json":             fmt.Sprintf(`{"name": "numbers-a", "endpoint": %q}`, l.world.Tools["numbers-a"].URL),
	} {
		req.Files = append(req.Files, &specv1.File{Path: path, Content: []byte(text)})
	}
	_, err := l.world.Doors()[0].Spec.Apply(ctx, connect.NewRequest(req))
	if err != nil {
		return fmt.Errorf("apply marker %d: %w", marker, err)
	}
	return nil
}

func temperature(marker int) string { return fmt.Sprintf("0.%02d", marker) }

// served is what an agentd shows of itself.
type served struct {
	Plane struct {
		Connected bool   `json:"connected"`
		Phase     string `json:"phase"`
		Faults    []struct {
			Code string `json:"code"`
		} `json:"faults"`
		Running struct {
			Epoch      uint64 `json:"epoch"`
			Generation int64  `json:"generation"`
		} `json:"running"`
	} `json:"controlPlane"`
	Loaded struct {
		Revision int64 `json:"revision"`
	} `json:"loaded"`
}

func (l *lab) served(ctx context.Context) (served, error) {
	var s served
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	code, body, err := harness.Get(ctx, l.agentd().URL()+"/admin/config")
	if err != nil {
		return s, err
	}
	if code != 200 {
		return s, fmt.Errorf("/admin/config: %d %s", code, body)
	}
	return s, json.Unmarshal([]byte(body), &s)
}

// reaches waits until the instance runs the marker's revision, which is the same number.
func (l *lab) reaches(ctx context.Context, marker int64, d time.Duration) error {
	return harness.Poll(ctx, d, func(ctx context.Context) error {
		s, err := l.served(ctx)
		if err == nil && s.Loaded.Revision != marker {
			err = fmt.Errorf("it runs revision %d, want %d", s.Loaded.Revision, marker)
		}
		return err
	})
}

// ask sends one request and gives the answer, which holds what the model was given.
func (l *lab) ask(ctx context.Context) (harness.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return (&harness.Agent{Addr: l.agentd().Addr}).Chat(ctx, "", "req 1")
}

// metric reads one of the control planes' counters, all of them together.
func (l *lab) metric(ctx context.Context, name string) (float64, error) {
	var sum float64
	for _, n := range l.world.Planes {
		v, err := (&harness.ControlPlane{People: n.Addr}).Metric(ctx, name)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

var errNever = errors.New("never")
