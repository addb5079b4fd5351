package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"syscall"

	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

// shown is what an instance says of itself.
type shown struct {
	Plane struct {
		Connected bool `json:"connected"`
	} `json:"controlPlane"`
	Identity struct {
		Serial string `json:"serial"`
	} `json:"identity"`
}

func show(ctx context.Context, n *world.Node) (shown, error) {
	var s shown
	code, body, err := harness.Get(ctx, n.URL()+"/admin/config")
	if err != nil {
		return s, err
	}
	if code != 200 {
		return s, fmt.Errorf("%s: /admin/config: %d", n.Name, code)
	}
	return s, json.Unmarshal([]byte(body), &s)
}

func hasStream(ctx context.Context, n *world.Node) (bool, error) {
	s, err := show(ctx, n)
	return s.Plane.Connected, err
}

// serial is that of the certificate that an instance goes by.
func serial(ctx context.Context, n *world.Node) (string, error) {
	s, err := show(ctx, n)
	return s.Identity.Serial, err
}
