package spec

import (
	"math"
	"regexp"
	"strings"
)

var (
	secretPrefix   = regexp.MustCompile(`^(?i:bearer |basic |-----begin)|^(sk-|sk_|pk_live|rk_live|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|LTAI|AIza|hf_|ya29\.|eyJ[A-Za-z0-9_-]+\.)[A-Za-z0-9]?`)
	secretAlphabet = regexp.MustCompile(`^[A-Za-z0-9+/=_-]{20,}$`)
	hexText        = regexp.MustCompile(`^[0-9a-fA-F]{32,}$`)
)

// LooksSecret guesses whether s is a key, a token or a password hash, by its prefix or by its disorder. It errs on both sides: use it for
// warnings and for masking, never to decide what is kept as a credential.
func LooksSecret(s string) bool {
	s = strings.Trim(s, "\"' ")
	switch {
	case secretPrefix.MatchString(s) && len(s) >= 8:
		return true
	case hexText.MatchString(s):
		return true
	case !secretAlphabet.MatchString(s):
		return false
	}
	upper := strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	lower := strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz")
	digit := strings.ContainsAny(s, "0123456789")
	return upper && lower && digit && entropy(s) > 3.5
}

// entropy is Shannon's, in bits per byte.
func entropy(s string) float64 {
	var count [256]int
	for i := range len(s) {
		count[s[i]]++
	}
	var h float64
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(s))
			h -= p * math.Log2(p)
		}
	}
	return h
}
