package check

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exposure is the most that systemd-analyze security may score a unit: 0 is none, 10 all. The last run gave 1.4 for each of the three
// (their network, the one allowed system call beyond the group, and a device ACL are what is left).
const exposure = 2.0

func units() []string {
	return []string{"agentry-etcd.service", "agentry-controlplane.service", "agentry-agentd@.service"}
}

// analyze runs systemd-analyze. A machine without it is a failure, not a skip: make deploy-check installs it.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatalf("the units can't be checked: %v (apt-get install systemd)", err)
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestUnitsVerify has systemd itself read the units; whatever it says about one is a fault. The programs are put where the check finds them.
func TestUnitsVerify(t *testing.T) {
	t.Parallel()
	made, dir := image(t), t.TempDir()
	args := []string{"verify", "--man=no"}
	for _, u := range units() {
		text := read(t, "deploy/systemd/"+u)
		text = strings.ReplaceAll(text, "/usr/local/bin/etcd", filepath.Join(made, "etcd", "etcd"))
		text = strings.ReplaceAll(text, "/usr/local/bin/", filepath.Join(made, "bin")+"/")
		name := strings.Replace(u, "@", "@greeter-1", 1)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, filepath.Join(dir, name))
	}
	for line := range strings.Lines(analyze(t, args...)) {
		for _, u := range units() {
			name, _, _ := strings.Cut(strings.TrimSuffix(u, ".service"), "@")
			if strings.Contains(line, name) {
				t.Error(strings.TrimSpace(line))
			}
		}
	}
}

var score = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

// TestUnitsAreHardened holds the units to systemd's own measure.
func TestUnitsAreHardened(t *testing.T) {
	t.Parallel()
	for _, u := range units() {
		m := score.FindStringSubmatch(analyze(t, "security", "--offline=true", "--no-pager", filepath.Join("..", "systemd", u)))
		if m == nil {
			t.Errorf("%s: no score", u)
			continue
		}
		if got, err := strconv.ParseFloat(m[1], 64); err != nil || got > exposure {
			t.Errorf("%s: exposure %s, at most %.1f", u, m[1], exposure)
		}
	}
}

// unit is a unit's settings, in order; a name may be there more than once.
type unit map[string][]string

func readUnit(t *testing.T, text string) unit {
	t.Helper()
	u := unit{}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "[") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("no setting: %q", line)
		}
		u[name] = append(u[name], value)
	}
	return u
}

// environment reads an EnvironmentFile. What stands under "This host:" is for the first host, and is written for another.
func environment(t *testing.T, text, host string) map[string]string {
	t.Helper()
	out, own := map[string]string{}, false
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			own = line == "# This host:" || own && line != ""
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("no setting: %q", line)
		}
		if own {
			value = strings.ReplaceAll(value, "agentry-1", host)
		}
		out[name] = value
	}
	return out
}

// unitService is a unit with its environment as the world runs it. instance is what stands behind the @.
func unitService(t *testing.T, file, envFile, host, instance string) service {
	t.Helper()
	u := readUnit(t, strings.ReplaceAll(read(t, "deploy/systemd/"+file), "%i", instance))
	state := "/var/lib/" + u["StateDirectory"][0]
	s := service{
		name: host + "-" + strings.TrimSuffix(file, ".service") + instance, host: host,
		env:    environment(t, read(t, "deploy/systemd/"+envFile), host),
		mounts: map[string]string{state: host + filepath.Base(file) + instance, "/etc/agentry/certs": "certs"},
		health: nil,
	}
	credentials := "/run/credentials"
	for _, e := range u["Environment"] {
		name, value, _ := strings.Cut(e, "=")
		s.env[name] = strings.ReplaceAll(value, "%d", credentials)
	}
	for _, c := range u["LoadCredential"] {
		name, from, _ := strings.Cut(c, ":")
		if want := "/etc/agentry/agents/" + instance + "/" + name; from != want {
			t.Errorf("%s: credential from %s, the page says %s", file, from, want)
		}
		s.mounts[credentials] = "certs/agents"
	}
	command := strings.ReplaceAll(u["ExecStart"][0], "${STATE_DIRECTORY}", state)
	s.command = strings.Fields(command)
	seconds, err := strconv.Atoi(u["TimeoutStopSec"][0])
	if err != nil {
		t.Fatal(err)
	}
	s.grace = time.Duration(seconds) * time.Second
	return s
}

// TestUnitsUp starts the units' commands for three hosts as plain processes, and loses a whole host while the instances elsewhere are asked.
func TestUnitsUp(t *testing.T) {
	t.Parallel()
	hosts := []string{"agentry-1", "agentry-2", "agentry-3"}
	w := newWorld(t, hosts)
	url := startModel(w)
	w.start(service{
		name: "certs", host: hosts[0], command: []string{"agentctl", "certs", "make", "-f", "/certs.yaml", "--dir", "/etc/agentry/certs"},
		mounts: map[string]string{"/etc/agentry/certs": "certs"}, files: map[string]string{"/certs.yaml": hostsIn(w, read(t, "deploy/systemd/certs.yaml"))},
	})
	w.well("certs")
	for from, to := range map[string]string{"greeter.pem": "enrollment.pem", "greeter.key": "enrollment.key"} {
		if err := os.Link(filepath.Join(w.volume("certs"), "agents", from), filepath.Join(w.volume("certs"), "agents", to)); err != nil {
			t.Fatal(err)
		}
	}
	onHost := map[string][]string{}
	begin := func(s service, health ...string) {
		s.health = append([]string{"agentctl", "health"}, health...)
		onHost[s.host] = append(onHost[s.host], s.name)
		w.start(s)
	}
	for _, h := range hosts {
		begin(unitService(t, "agentry-etcd.service", "etcd.env", h, ""), "http://127.0.0.1:2381/readyz")
	}
	for _, h := range hosts {
		w.well(onHost[h][0])
		begin(unitService(t, "agentry-controlplane.service", "controlplane.env", h, ""), "https://127.0.0.1:7700/readyz", "--ca-file", "/etc/agentry/certs/controlplane/people-ca.pem")
	}
	var servers, doors []string
	for i, h := range hosts {
		servers = append(servers, "https://"+w.hosts[h]+":7700")
		if i == 2 {
			continue // it will be lost, and is asked nothing
		}
		s := unitService(t, "agentry-agentd@.service", "agents/greeter-1.env", h, fmt.Sprintf("greeter-%d", i+1))
		s.env["AGENTD_MODEL_BASE_URL"] = url
		begin(s, "http://127.0.0.1:8800/healthz")
		doors = append(doors, w.hosts[h]+":8800")
	}
	for _, h := range hosts {
		for _, n := range onHost[h] {
			w.well(n)
		}
	}
	o := &operator{t: t, w: w, home: t.TempDir(), ca: filepath.Join(w.volume("certs"), "controlplane", "people-ca.pem")}
	o.login(strings.Join(servers, ","), filepath.Join(w.root("agentry-2-agentry-controlplane"), "var/lib/agentry/controlplane/bootstrap-token"))
	o.must("apply", "-f", "deploy/agent", "--wait")
	for _, d := range doors {
		eventually(t, 20*time.Second, func() error { return ready(d) })
	}
	calls := callAll(t.Context(), doors)
	calls.more(t, 10)
	for _, n := range onHost[hosts[2]] {
		w.kill(n)
	}
	o.must("prompt", "label", "set", "greeter", "tested", "1.0.0")
	calls.more(t, 10)
	if asked, failed := calls.stop(); len(failed) > 0 {
		t.Errorf("%d of %d questions failed while a host was lost: %v", len(failed), asked, failed[:min(3, len(failed))])
	}
	live := slices.Concat(onHost[hosts[0]], onHost[hosts[1]])
	slices.Reverse(live) // instances first
	if late := w.stop(syscall.SIGTERM, live...); len(late) > 0 {
		t.Errorf("%v did not end within TimeoutStopSec", late)
	}
}
