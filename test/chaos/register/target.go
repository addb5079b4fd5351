package register

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/view"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/test/chaos/world"
)

// Target is one object as a register.
type Target interface {
	// Name is the register's, Head the store's key of the object.
	Name() string
	Head() string
	// Read gives what the object is.
	Read(ctx context.Context, d *world.Door) (State, error)
	// CAS writes value where the object is at version expect, and answers the new version (0: nothing changed) with the store's
	// revision of the write. Where the object shows no values, value only says what is written.
	CAS(ctx context.Context, d *world.Door, expect int64, value string) (version, revision int64, err error)
	// Shows tells whether reads show the value that was written.
	Shows() bool
}

// Targets makes n of each kind of register. Setup must have been applied.
func Targets(n int) []Target {
	var out []Target
	for i := range n {
		out = append(out, agentTarget(fmt.Sprintf("reg-agent-%d", i)), labelTarget(fmt.Sprintf("reg-prompt-%d", i)), switchTarget(fmt.Sprintf("reg-server-%d", i)))
	}
	return out
}

// promptVersions is how many versions the prompts have between which the labels move.
const promptVersions = 12

// Setup applies the objects of Targets(n).
func Setup(ctx context.Context, d *world.Door, n int) error {
	for v := range promptVersions {
		files := map[string]string{}
		for i := range n {
			name := fmt.Sprintf("reg-prompt-%d", i)
			files["prompts/"+name+".json"] = fmt.Sprintf(`{"promptKey": %q, "version": "1.0.%d", "template": "register %d"}`, name, v, v)
			if v == 0 {
				server := fmt.Sprintf("reg-server-%d", i)
				files["mcp/"+server+".json"] = fmt.Sprintf(`{"name": %q, "endpoint": "http://127.0.0.1:9/mcp"}`, server)
			}
		}
		if _, err := Apply(ctx, d, files, nil, ""); err != nil {
			return fmt.Errorf("set up registers: %w", err)
		}
	}
	for i := range n {
		name := fmt.Sprintf("reg-agent-%d", i)
		if _, err := Apply(ctx, d, agentFiles(name, "first"), nil, ""); err != nil {
			return fmt.Errorf("set up register %s: %w", name, err)
		}
	}
	return nil
}

// Apply applies files at a door; check, when given, is the revision that the set's only agent must be at, message what history says.
func Apply(ctx context.Context, d *world.Door, files map[string]string, check *int64, message string) (*specv1.ApplyResponse, error) {
	req := &specv1.ApplyRequest{CheckRevision: check, Message: message}
	var paths []string
	for path := range files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		req.Files = append(req.Files, &specv1.File{Path: path, Content: []byte(files[path])})
	}
	resp, err := d.Spec.Apply(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return resp.Msg, nil
}

func agentFiles(name, value string) map[string]string {
	return map[string]string{
		name + "/agent-base.json": fmt.Sprintf(`{"promptKey": "reg-prompt-0", "description": %q}`, value),
		name + "/model.json":      `{"model": "scripted"}`,
	}
}

// agentTarget is an agent without instances: its version is its revision, its value its description.
type agentTarget string

// Name implements Target.
func (t agentTarget) Name() string { return string(t) }

// Head implements Target.
func (t agentTarget) Head() string { return view.HeadKey("agent", "default", string(t)) }

// Shows implements Target.
func (agentTarget) Shows() bool { return true }

// Read implements Target.
func (t agentTarget) Read(ctx context.Context, d *world.Door) (State, error) {
	o, err := get(ctx, d, "agent", string(t))
	if err != nil {
		return State{}, err
	}
	var doc struct {
		Description string `json:"description"`
	}
	if err := json.Unmarshal([]byte(o.GetJson()), &doc); err != nil {
		return State{}, fmt.Errorf("agent %s: %w", t, err)
	}
	return State{o.GetRevision(), doc.Description}, nil
}

// CAS implements Target.
func (t agentTarget) CAS(ctx context.Context, d *world.Door, expect int64, value string) (int64, int64, error) {
	resp, err := Apply(ctx, d, agentFiles(string(t), value), &expect, value)
	if err != nil {
		return 0, 0, err
	}
	for _, r := range resp.GetResults() {
		if r.GetKind() == "agent" {
			return r.GetRevision(), resp.GetStoreRevision(), nil
		}
	}
	return 0, 0, errors.New("the answer to an apply names no agent")
}

// labelTarget is a prompt whose label moves: its version is the store's revision of the head.
type labelTarget string

// Name implements Target.
func (t labelTarget) Name() string { return string(t) }

// Head implements Target.
func (t labelTarget) Head() string { return view.HeadKey("prompt", "default", string(t)) }

// Shows implements Target.
func (labelTarget) Shows() bool { return false }

// Read implements Target.
func (t labelTarget) Read(ctx context.Context, d *world.Door) (State, error) {
	o, err := get(ctx, d, "prompt", string(t))
	return State{Version: o.GetStoreRevision()}, err
}

// CAS implements Target.
func (t labelTarget) CAS(ctx context.Context, d *world.Door, expect int64, value string) (int64, int64, error) {
	resp, err := d.Prompts.SetLabel(ctx, connect.NewRequest(&registryv1.SetLabelRequest{
		Prompt: string(t), Label: "cur", Version: fmt.Sprintf("1.0.%d", number(value)%promptVersions), CheckRevision: &expect, Message: value,
	}))
	if err != nil {
		return 0, 0, err
	}
	return resp.Msg.GetStoreRevision(), resp.Msg.GetStoreRevision(), nil
}

// switchTarget is an MCP entry that is switched on and off: its version is the store's revision of the head.
type switchTarget string

// Name implements Target.
func (t switchTarget) Name() string { return string(t) }

// Head implements Target.
func (t switchTarget) Head() string { return view.HeadKey("mcp", "default", string(t)) }

// Shows implements Target.
func (switchTarget) Shows() bool { return false }

// Read implements Target.
func (t switchTarget) Read(ctx context.Context, d *world.Door) (State, error) {
	o, err := get(ctx, d, "mcp", string(t))
	return State{Version: o.GetStoreRevision()}, err
}

// CAS implements Target.
func (t switchTarget) CAS(ctx context.Context, d *world.Door, expect int64, value string) (int64, int64, error) {
	resp, err := d.MCP.SetEnabled(ctx, connect.NewRequest(&registryv1.SetEnabledRequest{
		Server: string(t), Tool: fmt.Sprintf("t%d", number(value)%7), Enabled: number(value)/7%2 == 0, CheckRevision: &expect, Message: value,
	}))
	if err != nil {
		return 0, 0, err
	}
	return resp.Msg.GetStoreRevision(), resp.Msg.GetStoreRevision(), nil
}

func get(ctx context.Context, d *world.Door, kind, name string) (*specv1.Object, error) {
	resp, err := d.Spec.Get(ctx, connect.NewRequest(&specv1.GetRequest{Kind: kind, Name: name}))
	if err != nil {
		return nil, err
	}
	return resp.Msg.GetObject(), nil
}

// number gives the last number in a value such as "c3-178".
func number(value string) int {
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			n = 0
			continue
		}
		n = n*10 + int(c-'0')
	}
	return n
}
