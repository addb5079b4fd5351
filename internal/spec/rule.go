package spec

import (
	"regexp"
	"strings"
	"unicode"
)

var (
	nameRule     = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	versionRule  = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.+]*$`)
	headerRule   = regexp.MustCompile("^[-A-Za-z0-9!#$%&'*+.^_`|~]+$")
	variableRule = regexp.MustCompile(`^[\pL_][\pL\pN_.-]*$`)
	digestRule   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	toolRule     = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?(/[^\s\p{Cc}]+)?$`)
	redisRule    = regexp.MustCompile(`^(rediss?://)?([-A-Za-z0-9_.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[0-9]{0,3})?$`)
)

// ValidName reports whether s is a name of semantics.md 14.
func ValidName(s string) bool { return len(s) <= maxName && nameRule.MatchString(s) }

// ValidPromptKey reports whether s is a prompt key: names joined by "/".
func ValidPromptKey(s string) bool {
	if len(s) > maxName {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if !nameRule.MatchString(part) {
			return false
		}
	}
	return true
}

// ValidVariable reports whether s can name a prompt's variable.
func ValidVariable(s string) bool { return len(s) <= maxName && variableRule.MatchString(s) }

// holds reports whether s keeps rule r.
func (r Rule) holds(s string) bool {
	switch r {
	case RuleNonEmpty:
		return strings.TrimSpace(s) != ""
	case RuleLine:
		return strings.TrimSpace(s) != "" && !strings.ContainsFunc(s, unicode.IsControl)
	case RuleName:
		return ValidName(s)
	case RulePromptKey:
		return ValidPromptKey(s)
	case RuleSemver:
		return ValidVersion(s)
	case RuleVersion:
		return len(s) <= maxName && versionRule.MatchString(s)
	case RuleURL:
		return httpURL(s)
	case RuleHeader:
		return len(s) <= maxListLength && headerRule.MatchString(s)
	case RuleVariable:
		return ValidVariable(s)
	case RuleDigest:
		return digestRule.MatchString(s)
	case RuleOrigin:
		return ValidOrigin(s)
	case RulePages:
		return s == "*" || ValidOrigin(s)
	case RuleTool:
		server, _, _ := strings.Cut(s, "/")
		return ValidName(server) && len(s) <= maxListLength && toolRule.MatchString(s)
	case RuleRedis:
		return redisRule.MatchString(s)
	default:
		return true
	}
}

// pattern gives the rule as a JSON Schema pattern; "" where none says it.
func (r Rule) pattern() string {
	switch r {
	case RuleNonEmpty:
		return `\S`
	case RuleLine:
		return `^\P{Cc}*[^\s\p{Cc}]\P{Cc}*$`
	case RuleName:
		return nameRule.String()
	case RulePromptKey:
		return `^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?(/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)*$`
	case RuleSemver:
		return semver.String()
	case RuleVersion:
		return versionRule.String()
	case RuleURL:
		return `^https?://`
	case RuleHeader:
		return headerRule.String()
	case RuleVariable:
		return `^[\p{L}_][\p{L}\p{N}_.-]*$`
	case RuleDigest:
		return digestRule.String()
	case RuleOrigin:
		return `^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\s]+$`
	case RulePages:
		return `^(\*|[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\s]+)$`
	case RuleTool:
		return toolRule.String()
	case RuleRedis:
		return redisRule.String()
	default:
		return ""
	}
}
