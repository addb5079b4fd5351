// Package tokens estimates how many tokens a text costs where a model's own count is not to be had. Model adapters
// and memory use it; it loads no table, so it stays within a factor of about 1.5.
package tokens

import "unicode/utf8"

// Estimate gives the estimated tokens of s: four ASCII bytes or one other character a token, rounded up.
func Estimate(s string) int {
	ascii, other := 0, 0
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			ascii++
			i++
			continue
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		other++
		i += size
	}
	return (ascii+3)/4 + other
}
