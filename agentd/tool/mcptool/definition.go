package mcptool

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/agentry/agentry/internal/tooldigest"
)

// maxName is the longest tool name that models take.
const maxName = 64

// definition is one tool as its server describes it.
type definition struct {
	name   string // as the model sees it
	tool   string
	text   string
	schema json.RawMessage
	digest string
}

// definitions reads a page of tools/list.
func definitions(server string, raw json.RawMessage) ([]definition, error) {
	page, err := tooldigest.Page(server, raw)
	if err != nil {
		return nil, err
	}
	out := make([]definition, 0, len(page))
	for _, t := range page {
		digest, err := t.Digest()
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", t.Name, err)
		}
		out = append(out, definition{name: Name(server, t.Name), tool: t.Name, text: t.Text(), schema: t.InputSchema, digest: digest})
	}
	return out, nil
}

// unique drops a tool whose name came before.
func unique(in []definition) []definition {
	seen := make(map[string]bool, len(in))
	out := in[:0]
	for _, d := range in {
		if !seen[d.tool] {
			seen[d.tool] = true
			out = append(out, d)
		}
	}
	return out
}

// Name gives the name under which a model sees a server's tool: server__tool in [A-Za-z0-9_-], at most 64 characters. Where that can't
// be said unchanged (another character, too long, or a server name that makes the border unclear) a short hash of the pair ends the
// name, so that two pairs never share one.
func Name(server, tool string) string {
	name := clean(server) + "__" + clean(tool)
	if len(name) <= maxName && name == server+"__"+tool && !strings.Contains(server, "__") && !strings.HasSuffix(server, "_") {
		return name
	}
	sum := sha256.Sum256([]byte(server + "\x00" + tool))
	suffix := "_" + hex.EncodeToString(sum[:4])
	return name[:min(len(name), maxName-len(suffix))] + suffix
}

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		default:
			return '_'
		}
	}, s)
}
