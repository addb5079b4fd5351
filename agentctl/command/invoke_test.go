package command

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A session that waits for a person's decision was hinted at with the agent's status, which doesn't tell of it.
func TestTheWayOutOfASessionThatWaits(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ pending, want string }{
		"waits":      {"ab3c", "agentctl approvals list helper says what waits; then agentctl approvals approve, or deny"},
		"other 409s": {"", "agentctl status helper"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp := &http.Response{StatusCode: http.StatusConflict, Status: "409 Conflict", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"error": {"message": "no"}}`))}
			resp.Header.Set("X-Agentry-Pending", tc.pending)
			err := (&cli{}).answer(resp, invocation{agent: "helper"}, instanceDoc{ID: "i-1"})
			var f *failure
			if !errors.As(err, &f) || f.code != exitConflict || f.hint != tc.want {
				t.Errorf("%+v", f)
			}
		})
	}
}
