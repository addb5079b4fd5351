package gate

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
)

func TestAUnaryCallEnds(t *testing.T) {
	d := open(t, Limits{Unary: time.Millisecond})
	d.get = func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	_, err := d.status(t).GetStatus(t.Context(), request(ada, &releasev1.GetStatusRequest{Agent: "a"}))
	if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Errorf("got %v", err)
	}
}
