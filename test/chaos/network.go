package main

import (
	"context"
	"fmt"

	"github.com/agentry/agentry/test/chaos/faults"
	"github.com/agentry/agentry/test/chaos/netns"
	"github.com/agentry/agentry/test/chaos/world"
)

// lay gives the world a network of its own, where that can be done. Where it can't, everything is on the loopback, and the network's
// faults are reported as left out.
func (o *options) lay(ctx context.Context) error {
	if err := netns.Available(); err != nil {
		o.logf("NOT RUN: no fault of the network happens in this run: it %v", err)
		return nil
	}
	instances := 0
	for _, a := range world.Fleet() {
		instances += a.Instances
	}
	n, err := faults.NewNetwork(ctx, 3, 3, instances)
	if err != nil {
		return fmt.Errorf("network namespaces: %w", err)
	}
	n.Settle(&o.world)
	o.kit.Network = n
	return nil
}

// takeUp takes the network down, once the world stopped.
func (o *options) takeUp() {
	if o.kit.Network == nil {
		return
	}
	if err := o.kit.Network.Close(); err != nil {
		o.logf("network namespaces: %v", err)
	}
}
