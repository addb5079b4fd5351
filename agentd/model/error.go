package model

import (
	"fmt"
	"strings"
)

// Error gives the message and the number of attempts. The attempts themselves are for the door to show.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "model call: %s", e.Message)
	if n := len(e.Attempts); n > 1 {
		fmt.Fprintf(&b, " (after %d attempts)", n)
	}
	return b.String()
}
