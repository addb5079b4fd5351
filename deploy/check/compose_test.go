package check

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// oneShot are the services that do their work and end.
var oneShot = []string{"certs"}

// loadCompose reads deploy/compose.yaml as Compose does: schema, merges, interpolation from env, references.
func loadCompose(t *testing.T, env ...string) *types.Project {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{"../compose.yaml"}, cli.WithEnv(env), cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("deploy/compose.yaml: %v", err)
	}
	return p
}

// TestComposeTopology holds the file to what it is for: three etcd, three control planes, one agent with two instances.
func TestComposeTopology(t *testing.T) {
	t.Parallel()
	p := loadCompose(t)
	got := p.ServiceNames()
	want := []string{"certs", "controlplane-1", "controlplane-2", "controlplane-3", "etcd-1", "etcd-2", "etcd-3", "greeter-1", "greeter-2"}
	if !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	for _, s := range p.Services {
		if kind(s.Name) == "etcd" || kind(s.Name) == "certs" {
			continue
		}
		for _, other := range p.Services {
			if kind(other.Name) != "etcd" {
				continue
			}
			for n := range s.Networks {
				if _, shared := other.Networks[n]; shared && kind(s.Name) != "controlplane" {
					t.Errorf("%s shares the network %s with %s: agents never reach etcd", s.Name, n, other.Name)
				}
			}
		}
	}
	if !p.Networks["store"].Internal {
		t.Error("the store's network leads outside")
	}
}

// TestComposeIsHardened holds every service to the same rules.
func TestComposeIsHardened(t *testing.T) {
	t.Parallel()
	p := loadCompose(t)
	stages := targets(t)
	for _, s := range p.Services {
		bad := func(format string, args ...any) { t.Helper(); t.Errorf(s.Name+": "+format, args...) }
		once := slices.Contains(oneShot, s.Name)
		if s.User != "65532:65532" {
			bad("user %q", s.User)
		}
		if !s.ReadOnly || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 {
			bad("read_only %v, privileged %v, cap_drop %v, cap_add %v", s.ReadOnly, s.Privileged, s.CapDrop, s.CapAdd)
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			bad("may gain privileges")
		}
		if s.MemLimit <= 0 || s.PidsLimit <= 0 {
			bad("memory %d, processes %d: both need a limit", s.MemLimit, s.PidsLimit)
		}
		if s.Logging == nil || s.Logging.Options["max-size"] == "" {
			bad("logs without a bound")
		}
		if s.Pid != "" || s.Ipc != "" || s.NetworkMode == "host" || len(s.Devices) > 0 {
			bad("shares something of the host")
		}
		if s.Build == nil || !slices.Contains(stages, s.Build.Target) {
			bad("not built from deploy/Dockerfile: %+v", s.Build)
		}
		if (s.Restart == "unless-stopped") == once {
			bad("restart %q", s.Restart)
		}
		if !once && (s.HealthCheck == nil || len(s.HealthCheck.Test) < 2 || s.HealthCheck.Test[0] != "CMD") {
			bad("no health check without a shell")
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				bad("port %s is open to everybody", port.Published)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeVolume {
				bad("mounts %s of the host", v.Source)
			}
			if _, ok := p.Volumes[v.Source]; !ok {
				bad("volume %s isn't declared", v.Source)
			}
			if strings.HasPrefix(v.Target, "/certs/") && !v.ReadOnly && !once {
				bad("may write %s", v.Target)
			}
			if v.Source == "authorities" && s.Name != "certs" {
				bad("sees the authorities' keys")
			}
		}
		for name, value := range s.Environment {
			if value != nil && *value != "" && !strings.HasPrefix(*value, "/") && slices.ContainsFunc([]string{"TOKEN", "KEY", "SECRET", "PASSWORD"}, func(w string) bool { return strings.Contains(name, w) }) {
				bad("%s holds a value, not a file's name", name)
			}
		}
	}
}

func kind(service string) string {
	name, _, _ := strings.Cut(service, "-")
	return name
}

// read gives a file of the checkout.
func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
