package backup

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// goes says how many objects there are that the backup doesn't have, or has as deleted, so that who asks sees what a restore takes away;
// empty: none. A head that can't be read counts.
func (p *plan) goes(ctx context.Context, s store.Store) (string, error) {
	var told []string
	for _, kind := range []struct{ kind, one, many string }{
		{manifest.KindAgent, "agent", "agents"},
		{manifest.KindPrompt, "prompt", "prompts"},
		{manifest.KindMCP, "MCP entry", "MCP entries"},
		{manifest.KindCredential, "credential", "credentials"},
	} {
		n := 0
		err := each(ctx, s, view.HeadPrefix(kind.kind, ""), 0, func(kv store.KV) error {
			if _, stays := p.file.alive[kv.Key]; !stays && alive(kv.Value) {
				n++
			}
			return nil
		})
		switch {
		case err != nil:
			return "", fmt.Errorf("read what there is: %w", err)
		case n == 1:
			told = append(told, "1 "+kind.one)
		case n > 1:
			told = append(told, fmt.Sprintf("%d %s", n, kind.many))
		}
	}
	return strings.Join(told, ", "), nil
}

// alive reports whether a head of any kind isn't a tombstone.
func alive(head []byte) bool {
	var h struct {
		Deleted bool `json:"deleted"`
	}
	return json.Unmarshal(head, &h) != nil || !h.Deleted
}
