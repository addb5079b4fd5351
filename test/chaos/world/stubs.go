package world

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/test/chaos/stub"
	"github.com/agentry/agentry/test/harness"
)

// ToolNumbers is how many tools each server of numbers has: n0, n1, ... A config of marker k is allowed tool n(k mod ToolNumbers).
const ToolNumbers = 25

// Servers are the names of the MCP entries that the hot specs use.
func Servers() []string { return []string{"numbers-a", "numbers-b"} }

func (w *World) startStubs() error {
	w.Canary = "canary" + rand.Text()
	var err error
	if w.Model, err = stub.StartModel(w.opts.StubHost); err != nil {
		return err
	}
	var tools []string
	for n := range ToolNumbers {
		tools = append(tools, fmt.Sprintf("n%d", n))
	}
	w.Tools = map[string]*harness.MCPStub{}
	for _, name := range Servers() {
		w.Tools[name] = harness.NewMCPStub(name, tools...)
	}
	return nil
}

// reachStubs tells Options.Reach of every stub.
func (w *World) reachStubs() error {
	if w.opts.Reach == nil {
		return nil
	}
	urls := []string{w.Model.URL}
	for _, t := range w.Tools {
		urls = append(urls, t.URL)
	}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			return err
		}
		if err := w.opts.Reach(u.Host); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends everything: agents, control planes, etcd, the stubs. It is safe twice.
func (w *World) Stop() {
	for _, n := range w.Nodes() {
		n.Kill()
	}
	if w.etcd != nil {
		_ = w.etcd.Close()
		w.etcd = nil
	}
	w.Close()
	if w.Model != nil {
		w.Model.Close()
		w.Model = nil
	}
	for _, t := range w.Tools {
		t.Close()
	}
	w.Tools = nil
}

// Token is the people door's token of a control plane.
func (n *Node) Token() (string, error) {
	if n.Kind != Plane {
		return "", errs.New(errs.Invalid, "%s has no people door", n.Name)
	}
	b, err := os.ReadFile(filepath.Join(n.Dir, "token"))
	return strings.TrimSpace(string(b)), err
}
