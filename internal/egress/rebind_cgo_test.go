//go:build cgo && linux

package egress_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/internal/egress"
)

const rebindMark = "EGRESS_TEST_REBIND"

// TestRebinding with the C library's resolver, which is asked through a library that rebinds. The test runs itself again under it.
func TestRebindingByTheCLibrary(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lib := filepath.Join(t.TempDir(), "rebind.so")
	if out, err := exec.CommandContext(ctx, "gcc", "-shared", "-fPIC", "-o", lib, "testdata/rebind.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestUnderRebinding$", "-test.v")
	cmd.Env = append(os.Environ(), rebindMark+"=1", "GODEBUG=netdns=cgo", "LD_PRELOAD="+lib)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestUnderRebinding") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestUnderRebinding is the child's part; by itself it does nothing.
func TestUnderRebinding(t *testing.T) {
	if os.Getenv(rebindMark) == "" {
		return
	}
	f := listenForbidden(t)
	naive := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	trap, target := "rebind-a.example.com", "http://rebind-b.example.com:"+f.port+"/"
	if found, err := net.DefaultResolver.LookupNetIP(t.Context(), "ip4", trap); err != nil || egress.Classify(found[0].Unmap()) != egress.Public {
		t.Fatal(found, err)
	}
	if err := get(t.Context(), naive, "http://"+trap+":"+f.port+"/"); err != nil || f.hits.Load() == 0 {
		t.Fatalf("the trap doesn't work: %v", err)
	}
	f.hits.Store(0)
	g := egress.New(egress.Config{})
	c := g.HTTPClient()
	defer c.CloseIdleConnections()
	if err := g.CheckURL(t.Context(), target); err != nil {
		t.Fatalf("the first look: %v", err)
	}
	for range 5 {
		var denied *egress.DeniedError
		if err := get(t.Context(), c, target); !errors.As(err, &denied) || denied.Class != egress.Loopback {
			t.Errorf("%v", err)
		}
	}
	if n := f.hits.Load(); n != 0 {
		t.Errorf("%d hits", n)
	}
}
