package spec

import (
	"cmp"
	"regexp"
	"strings"
)

var semver = regexp.MustCompile(`^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)` +
	`(?:-((?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?` +
	`(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?$`)

// ValidVersion reports whether v is a semantic version (2.0.0) such as "3.0.11".
func ValidVersion(v string) bool { return len(v) <= maxName && semver.MatchString(v) }

// CompareVersions orders semantic versions: -1, 0 or 1. Build metadata doesn't count. A text that is no
// version stands before every version; two of them are compared as texts.
func CompareVersions(a, b string) int {
	x, y := semver.FindStringSubmatch(a), semver.FindStringSubmatch(b)
	switch {
	case x == nil && y == nil:
		return strings.Compare(a, b)
	case x == nil:
		return -1
	case y == nil:
		return 1
	}
	for i := 1; i <= 3; i++ {
		if c := compareNumbers(x[i], y[i]); c != 0 {
			return c
		}
	}
	return comparePrerelease(x[4], y[4])
}

func comparePrerelease(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(b), len(a)) // a release stands after its prereleases
	}
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		nx, ny := digits(x[i]), digits(y[i])
		c := strings.Compare(x[i], y[i])
		switch {
		case nx && ny:
			c = compareNumbers(x[i], y[i])
		case nx:
			c = -1
		case ny:
			c = 1
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(x), len(y))
}

// compareNumbers orders decimals without leading zeros, of any length.
func compareNumbers(a, b string) int {
	if c := cmp.Compare(len(a), len(b)); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }
