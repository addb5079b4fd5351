package app

import (
	"time"

	"github.com/agentry/agentry/controlplane/collector"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/internal/manifest"
)

// newCollector makes what removes unused records from the store.
func newCollector(in parts, table *fleet.Table) (*collector.Collector, error) {
	return collector.New(collector.Config{Logger: in.log, Running: func() (map[manifest.Hash]bool, bool) {
		running := map[manifest.Hash]bool{}
		for _, i := range table.All() {
			running[i.Running.Token.Hash] = true
		}
		return running, table.Complete(time.Now())
	}})
}
