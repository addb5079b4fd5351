package specfile

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// LiteralPlace is a place of an agent where a value stands literally. Whoever stores the agent puts the value into a credential of
// the given name and Set a reference there, unless the MCP entry's schema says secret: false for Server, Section and Parameter.
type LiteralPlace struct {
	spec.Place
	CredentialName string
}

// Secret gives the literal.
func (p LiteralPlace) Secret() secret.Value { return secret.NewValue(p.Get().Literal) }

// Literals lists every literal value of a, in document order, each with the credential named after its place. The places stay
// bound to a. Empty literals are left out.
func Literals(a *spec.Agent) []LiteralPlace {
	var out []LiteralPlace
	count := map[string]int{}
	for _, p := range a.Places() {
		if v := p.Get(); v.Ref == "" && v.Literal != "" {
			name := CredentialName(a.AgentName, p.Parts()...)
			out = append(out, LiteralPlace{Place: p, CredentialName: name})
			count[strings.ToLower(name)]++
		}
	}
	for i, p := range out {
		if count[strings.ToLower(p.CredentialName)] > 1 { // query parameters may differ by case alone, credentials may not
			out[i].CredentialName = hashed(a.AgentName+"."+strings.Join(p.Parts(), "."), p.CredentialName)
		}
	}
	return out
}

// CredentialName names the credential of a place: agent and parts joined by dots. What no name may hold becomes "-"; a name so changed, or
// longer than 64, ends in eight digits of a hash of the whole, so that it stays the place's own.
func CredentialName(agent string, parts ...string) string {
	full := agent + "." + strings.Join(parts, ".")
	if spec.ValidName(full) {
		return full
	}
	return hashed(full, full)
}

func hashed(full, name string) string {
	clean := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	sum := sha256.Sum256([]byte(full))
	clean = strings.TrimLeft(clean, "-_.")
	return clean[:min(len(clean), 64-9)] + "-" + hex.EncodeToString(sum[:4])
}

// LooksSecret guesses whether a text is a key or token (see spec.LooksSecret).
func LooksSecret(s string) bool { return spec.LooksSecret(s) }
