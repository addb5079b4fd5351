package check

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
)

// composeService is a service of compose.yaml as the world runs it.
func composeService(t *testing.T, p *types.Project, s types.ServiceConfig) service {
	t.Helper()
	out := service{name: s.Name, host: s.Name, command: s.Command, env: map[string]string{}, mounts: map[string]string{}, files: map[string]string{}, memory: int64(s.MemLimit)}
	for name, value := range s.Environment {
		if value != nil {
			out.env[name] = *value
		}
	}
	for _, v := range s.Volumes {
		out.mounts[v.Target] = v.Source
	}
	for _, c := range s.Configs {
		text, err := os.ReadFile(p.Configs[c.Source].File)
		if err != nil {
			t.Fatal(err)
		}
		out.files[c.Target] = string(text)
	}
	if s.HealthCheck != nil {
		out.health = s.HealthCheck.Test[1:]
	}
	if s.StopGracePeriod != nil {
		out.grace = time.Duration(*s.StopGracePeriod)
	}
	return out
}

// up starts the services as their depends_on says.
func up(t *testing.T, p *types.Project, w *world) {
	t.Helper()
	started := map[string]bool{}
	for len(started) < len(p.Services) {
		before := len(started)
		for _, name := range p.ServiceNames() {
			s := p.Services[name]
			waits := false
			for other := range s.DependsOn {
				waits = waits || !started[other]
			}
			if started[name] || waits {
				continue
			}
			for other := range s.DependsOn {
				w.well(other) // service_healthy and service_completed_successfully alike
			}
			spec := composeService(t, p, s)
			for target, text := range spec.files {
				spec.files[target] = hostsIn(w, text)
			}
			w.start(spec)
			started[name] = true
		}
		if len(started) == before {
			t.Fatal("depends_on goes round in a circle")
		}
	}
	for name := range started {
		w.well(name)
	}
}

// hostsIn writes addresses for the names in the lists of hosts of a plan of certificates. 127.0.0.1 is in each: connections on the loopback
// come from there, and an etcd member looks whether a peer's certificate is for the address that it comes from.
func hostsIn(w *world, plan string) string {
	lines := strings.Split(plan, "\n")
	for i, l := range lines {
		head, tail, ok := strings.Cut(l, "hosts: [")
		if !ok {
			continue
		}
		list, rest, _ := strings.Cut(tail, "]")
		names := strings.Split(list, ", ")
		for k, n := range names {
			if addr, known := w.hosts[n]; known {
				names[k] = addr
			}
		}
		if !slices.Contains(names, "127.0.0.1") {
			names = append(names, "127.0.0.1")
		}
		lines[i] = head + "hosts: [" + strings.Join(names, ", ") + "]" + rest
	}
	return strings.Join(lines, "\n")
}

// model starts the scripted model server as a process of the world.
func startModel(w *world) (url string) {
	w.hosts["model"] = w.net + "9"
	w.start(service{
		name: "model", host: "model", command: []string{"agentctl", "model", "serve", "--listen", "0.0.0.0:7791", "/rules.yaml"},
		files: map[string]string{"/rules.yaml": "rules: []\n"},
	})
	return "http://" + w.hosts["model"] + ":7791/v1"
}

// TestComposeUp starts deploy/compose.yaml as plain processes, does what the operator's page says, and loses a control plane and an etcd
// while the instances are asked.
func TestComposeUp(t *testing.T) {
	t.Parallel()
	names := loadCompose(t).ServiceNames()
	w := newWorld(t, names)
	url := startModel(w)
	p := loadCompose(t, "AGENTD_MODEL_BASE_URL="+url)
	up(t, p, w)

	o := &operator{t: t, w: w, home: t.TempDir(), ca: filepath.Join(w.volume("controlplane-certs"), "people-ca.pem")}
	var servers, doors []string
	for _, n := range names {
		switch kind(n) {
		case "controlplane":
			servers = append(servers, "https://"+w.hosts[n]+":7700")
		case "greeter":
			doors = append(doors, w.hosts[n]+":8800")
		}
	}
	o.login(strings.Join(servers, ","), filepath.Join(w.volume("controlplane-2"), "bootstrap-token"))
	o.must("apply", "-f", "deploy/agent", "--wait")
	for _, d := range doors {
		eventually(t, 20*time.Second, func() error { return ready(d) })
	}
	metricsAreInThePage(t, o, servers[0], doors[0])

	calls := callAll(t.Context(), doors)
	calls.more(t, 10)
	w.kill("controlplane-1")
	w.kill("etcd-1")
	changed := filepath.Join(t.TempDir(), "agent")
	if err := os.CopyFS(changed, os.DirFS("../agent")); err != nil {
		t.Fatal(err)
	}
	prompt := filepath.Join(changed, "prompts", "greeter.json")
	text, err := os.ReadFile(prompt) //nolint:gosec // G304: of this test's folder
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(prompt, []byte(strings.Replace(string(text), "1.0.0", "1.0.1", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	o.must("apply", "-f", changed, "--wait")
	for _, n := range []string{"etcd-1", "controlplane-1"} { // as restart: unless-stopped does
		w.start(w.proc(n).service)
		w.well(n)
	}
	calls.more(t, 10)
	asked, failed := calls.stop()
	if len(failed) > 0 {
		t.Errorf("%d of %d questions failed while a control plane and an etcd were lost: %v", len(failed), asked, failed[:min(3, len(failed))])
	}
	t.Logf("%d questions, %d failed", asked, len(failed))

	for _, n := range names {
		s := w.proc(n).service
		if slices.Contains(oneShot, n) {
			continue
		}
		if got := w.rss(n); got > s.memory*8/10 {
			t.Errorf("%s uses %d MiB of its %d MiB", n, got>>20, s.memory>>20)
		}
	}
	for _, k := range []string{"greeter", "controlplane", "etcd"} { // who depends goes first, as with docker compose down
		var group []string
		for _, n := range names {
			if kind(n) == k {
				group = append(group, n)
			}
		}
		if late := w.stop(syscall.SIGTERM, group...); len(late) > 0 {
			t.Errorf("%v did not end within their grace", late)
		}
		for _, n := range group {
			if code := w.proc(n).cmd.ProcessState.ExitCode(); code != 0 && k != "etcd" { // etcd ends by its signal
				t.Errorf("%s ended with %d", n, code)
			}
		}
	}
}

func ready(door string) error {
	resp, err := http.Get("http://" + door + "/readyz") //nolint:gosec,noctx // G107: a door of this test
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return &notReady{door, resp.Status}
	}
	return nil
}

type notReady struct{ door, status string }

func (n *notReady) Error() string { return n.door + ": " + n.status }
