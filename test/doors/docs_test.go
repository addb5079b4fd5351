package doors

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/agentry/agentry/test/harness"
)

// block is a fenced block of a page.
type block struct{ language, text string }

func blocks(t *testing.T, file string) []block {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	parts := strings.Split("\n"+string(b), "\n```")
	for i := 1; i < len(parts); i += 2 {
		language, text, _ := strings.Cut(parts[i], "\n")
		out = append(out, block{language, text})
	}
	return out
}

// Every block of docs/doors.md is run as it stands there, in order, but for the instance's address: the JSON is the agent's own file.
func TestDoorsPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mcpScript)
	desk := harness.NewMCPStub("desk", "refund")
	t.Cleanup(desk.Close)
	const key, approver = "k-of-the-web-shop", "k-of-operations"
	bin, err := filepath.Abs(binDir)
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "KEY="+key, "APPROVER_KEY="+approver, "AGENTCTL_SERVER=http://"+w.cp.People, "AGENTRY_TOKEN_FILE="+w.cp.TokenFile(), "HOME="+w.Dir, "NO_COLOR=1",
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	page := blocks(t, "../../docs/doors.md")
	files := harness.Files{
		"support-desk/model.json":       `{"model": "scripted"}`,
		"support-desk/mcp-servers.json": `{"mcpServers": [{"mcpServerName": "desk"}]}`,
		"mcp/desk.json":                 fmt.Sprintf(`{"name": "desk", "endpoint": %q}`, desk.URL),
		"prompts/support-desk.json":     `{"promptKey": "support-desk", "version": "1.0.0", "template": "You help."}`,
	}
	address := "http://127.0.0.1:8800" // nothing asks it before the instance is there
	start := func() {
		if address == "http://127.0.0.1:8800" {
			address = w.agent(t, "support-desk", files).URL()
		}
	}
	ran := map[string]int{}
	for i, b := range page {
		ran[b.language]++
		name := fmt.Sprintf("block %d (%s)", i+1, b.language)
		switch b.language {
		case "json":
			files["support-desk/agent-base.json"] = b.text
		case "sh":
			if !strings.Contains(b.text, "credential create") {
				start()
			}
			runBlock(t, name, env, "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(b.text, "http://127.0.0.1:8800", address))
		case "js":
			start()
			runBlock(t, name, env, "node", "--input-type=module", "-e", strings.ReplaceAll(b.text, "http://127.0.0.1:8800", address))
		case "yaml":
			start()
			tryLibreChat(t, strings.NewReplacer("http://127.0.0.1:8800", address, "${KEY}", key).Replace(b.text))
		default:
			t.Errorf("%s: nobody runs it", name)
		}
	}
	if ran["sh"] < 6 || ran["js"] != 2 || ran["json"] != 1 || ran["yaml"] != 1 {
		t.Errorf("blocks: %v", ran)
	}
}

// runBlock runs a block, which must end with 0 and say something.
func runBlock(t *testing.T, name string, env []string, program string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	if program == "node" {
		dir = "." // where the clients are installed
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = env, dir
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) == 0 {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	t.Logf("%s:\n%s", name, out)
}

// tryLibreChat does with a librechat.yaml what LibreChat does: it lists the endpoint's models and asks the first.
func tryLibreChat(t *testing.T, text string) {
	t.Helper()
	var file struct {
		Endpoints struct {
			Custom []struct {
				APIKey  string `yaml:"apiKey"`
				BaseURL string `yaml:"baseURL"`
				Models  struct {
					Default []string `yaml:"default"`
				} `yaml:"models"`
			} `yaml:"custom"`
		} `yaml:"endpoints"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil || len(file.Endpoints.Custom) != 1 {
		t.Fatalf("librechat.yaml: %v", err)
	}
	e := file.Endpoints.Custom[0]
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.BaseURL+"/models", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+e.APIKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var models struct {
		Data []struct{ ID string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&models); err != nil || len(models.Data) != 1 || len(e.Models.Default) != 1 || models.Data[0].ID != e.Models.Default[0] {
		t.Errorf("the endpoint has %+v, the file says %v (%v)", models, e.Models.Default, err)
	}
}
