package view

import "context"

// Era is the time within which tokens compare: one cluster, one epoch. While a restore is under way nothing may be pushed or written.
type Era struct {
	ClusterID string
	Epoch     uint64
	Restoring string // id of the restore under way; "": none is
}

// Whole says whether no restore is under way.
func (e Era) Whole() bool { return e.Restoring == "" }

// Era gives the era as of the view's revision.
func (v *View) Era() Era {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.era()
}

func (v *View) era() Era {
	e := Era{ClusterID: v.cluster.ID, Epoch: v.cluster.Epoch}
	if v.cluster.Restoring != nil {
		e.Restoring = v.cluster.Restoring.ID
	}
	return e
}

// AwaitEra waits until the era is another than a known one and gives it; false when ctx ended. Eras that came and went meanwhile are
// passed over.
func (v *View) AwaitEra(ctx context.Context, known Era) (Era, bool) {
	for {
		v.mu.RLock()
		now, changed := v.era(), v.changed
		v.mu.RUnlock()
		if now != known {
			return now, ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Era{}, false
		}
	}
}

// EraRevision is the store revision at which the record of the era was written, as the view shows it: whoever shows it too knows of the era.
func (v *View) EraRevision() int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.mods[ClusterKey]
}
