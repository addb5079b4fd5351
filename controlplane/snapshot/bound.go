package snapshot

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// bound holds credentials to the origins that they may be sent to. The door refuses what would send one elsewhere; here it is a
// second time, for what came about by another way (a rollback, a pin): its value isn't delivered.
func (o *resolution) bound(raw json.RawMessage) error {
	if !slices.ContainsFunc(o.resources, func(r Resource) bool {
		return r.Line.Kind == manifest.KindCredential && len(o.Credentials[r.Line.Name].Origins) > 0
	}) {
		return nil
	}
	a, err := decode(raw)
	if err != nil {
		return err
	}
	for _, d := range a.Destinations() {
		allowed := o.Credentials[d.Credential].Origins
		if len(allowed) == 0 {
			continue
		}
		addresses := []string{d.Address}
		if d.Server != "" {
			if addresses, err = o.addresses(d.Server); err != nil {
				return err
			}
		}
		if to := spec.Forbidden(allowed, addresses); to != "" {
			return &DanglingError{
				Resource: manifest.KindCredential + "/" + d.Credential, Field: d.Path,
				Reason: fmt.Sprintf("may not be sent to %s, only to %s", to, strings.Join(allowed, ", ")),
			}
		}
	}
	return nil
}

// addresses gives the endpoints of an MCP entry as it was resolved.
func (o *resolution) addresses(server string) ([]string, error) {
	for _, r := range o.resources {
		if r.Line.Kind != manifest.KindMCP || r.Line.Name != server {
			continue
		}
		var s spec.MCPServer
		if err := json.Unmarshal(r.JSON, &s); err != nil {
			return nil, fmt.Errorf("decode mcp %s: %w", server, err)
		}
		return s.Addresses(), nil
	}
	return nil, nil
}
