// Package traffic is what goes on while things go wrong: hot updates of whole marked configs, and requests at the agents' doors whose
// answers, model calls and tool calls must all carry one marker.
package traffic

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/agentry/agentry/test/chaos/world"
)

// promptsPerKey is how many versions one prompt gets before the next prompt takes over: a head holds all its versions.
const promptsPerKey = 40

// Spec is the config of an agent that carries marker k in its prompt, its model's temperature, its tools and a header. The prompt is the
// latest, which moves in the same transaction; pinned, it is named by its version: a refused config whose prompt is the latest leaves the
// prompt behind when it goes (semantics.md 7.3), so that what is refused must be pinned.
func Spec(w *world.World, agent string, k int, pinned bool) map[string]string {
	servers := world.Servers()
	server := servers[(k/5)%len(servers)] // every 5th update replaces the MCP server
	prompt := fmt.Sprintf("%s-%d", agent, k/promptsPerKey)
	version := ""
	if pinned {
		version = fmt.Sprintf(`"promptVersion": "1.0.%d", `, k)
	}
	files := map[string]string{
		agent + "/agent-base.json":    fmt.Sprintf(`{"promptKey": %q, %s"maxIterations": 4, "description": "marker %d"}`, prompt, version, k),
		agent + "/model.json":         fmt.Sprintf(`{"model": "scripted", "temperature": %v}`, Temperature(k)),
		agent + "/mcp-servers.json":   fmt.Sprintf(`{"mcpServers": [{"mcpServerName": %q, "headers": {"X-Number": "%d", "X-Key": %q}, "tools": {"allow": ["n%d"]}}]}`, server, k, w.Canary, k%world.ToolNumbers),
		"prompts/" + prompt + ".json": fmt.Sprintf(`{"promptKey": %q, "version": "1.0.%d", "template": "number %d"}`, prompt, k, k),
	}
	for name, t := range w.Tools {
		files["mcp/"+name+".json"] = fmt.Sprintf(`{"name": %q, "endpoint": %q, "parameters": {"headers": {"X-Number": {"required": true, "secret": false}, "X-Key": {"required": true}}}}`, name, t.URL)
	}
	return files
}

// Temperature is the model parameter that carries marker k, modulo 997: never 0, which can't be sent, and never above 1.
func Temperature(k int) float64 { return float64(k%997+1) / 1000 }

var (
	requestID    = regexp.MustCompile(`req (\S+)`)
	promptMarker = regexp.MustCompile(`number (\d+)`)
	answerShape  = regexp.MustCompile(`^done (\S+) number (\d+) temperature (\S+) `)
)

// markerOf reads the marker out of a prompt, and holds the other parts of a model call to it.
func markerOf(system string, temperature *float64, tools []string) (int, error) {
	m := promptMarker.FindStringSubmatch(system)
	if m == nil {
		return 0, fmt.Errorf("the prompt carries no marker: %q", system)
	}
	k, err := strconv.Atoi(m[1])
	if err != nil {
		return 0, err
	}
	if temperature == nil || math.Abs(*temperature-Temperature(k)) > 1e-9 {
		return k, fmt.Errorf("mixed: prompt of marker %d with temperature %v, want %v", k, deref(temperature), Temperature(k))
	}
	if len(tools) == 0 { // withdrawn: its server isn't connected, and the config is served all the same (semantics.md 6)
		return k, errWithdrawn
	}
	if len(tools) != 1 || !strings.HasSuffix(tools[0], fmt.Sprintf("__n%d", k%world.ToolNumbers)) {
		return k, fmt.Errorf("mixed: prompt of marker %d with tools %v", k, tools)
	}
	return k, nil
}

var errWithdrawn = errors.New("no tool is offered")

func deref(f *float64) any {
	if f == nil {
		return "none"
	}
	return *f
}
