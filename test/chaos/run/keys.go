package run

import (
	"context"
	"fmt"

	"github.com/agentry/agentry/test/chaos/register"
	"github.com/agentry/agentry/test/chaos/world"
)

// keysCount tells whether a repeated call under one idempotency key is answered as the first was, at another replica too: without that
// a retried check proves nothing.
func keysCount(ctx context.Context, doors []*world.Door) (bool, error) {
	files := map[string]string{
		"probe/agent-base.json": `{"promptKey": "probe", "description": "asked twice"}`,
		"probe/model.json":      `{"model": "scripted"}`,
		"prompts/probe.json":    `{"promptKey": "probe", "version": "1.0.0", "template": "probe"}`,
	}
	ctx = world.Once(ctx, "probe-of-idempotency")
	none := int64(0)
	first, err := register.Apply(ctx, doors[0], files, &none, "")
	if err != nil {
		return false, fmt.Errorf("probe: %w", err)
	}
	second, err := register.Apply(ctx, doors[len(doors)-1], files, &none, "")
	return err == nil && second.GetStoreRevision() == first.GetStoreRevision(), nil
}
