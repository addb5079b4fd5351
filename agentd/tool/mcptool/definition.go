package mcptool

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gowebpki/jcs"
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

// wireTool is what counts of a tool's definition.
type wireTool struct {
	Server       string          `json:"server"`
	Name         string          `json:"name"`
	Title        string          `json:"title,omitempty"`
	Description  string          `json:"description,omitempty"`
	InputSchema  json.RawMessage `json:"inputSchema,omitempty"`
	OutputSchema json.RawMessage `json:"outputSchema,omitempty"`
	Annotations  json.RawMessage `json:"annotations,omitempty"`
}

// definitions reads a page of tools/list.
func definitions(server string, raw json.RawMessage) ([]definition, error) {
	var page struct {
		Tools []wireTool `json:"tools"`
	}
	if err := json.Unmarshal(raw, &page); err != nil {
		return nil, fmt.Errorf("read the tool list: %w", err)
	}
	out := make([]definition, 0, len(page.Tools))
	for _, t := range page.Tools {
		if t.Name == "" {
			return nil, fmt.Errorf("read the tool list: a tool without a name")
		}
		t.Server = server
		digest, err := t.digest()
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", t.Name, err)
		}
		text := t.Description
		if text == "" {
			text = t.Title
		}
		out = append(out, definition{name: Name(server, t.Name), tool: t.Name, text: text, schema: t.InputSchema, digest: digest})
	}
	return out, nil
}

// digest is SHA-256 in lower hex over the RFC 8785 form of server, name, title, description, both schemas and annotations; a member that
// the server did not send is absent.
func (t wireTool) digest() (string, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	if b, err = jcs.Transform(b); err != nil {
		return "", fmt.Errorf("canonical form: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
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
