// Package v03 is the wire of A2A 0.3 in terms of 1.0: requests of an old client become requests of today, and answers of today become what such a
// client reads. It has the three forms that 0.3 had: JSON-RPC with its "kind" members, the proto a2a.v1, and that proto's JSON (HTTP+JSON). Doors
// bring the operations; nothing here does any I/O.
//
// What 0.3 can't say is left out or told otherwise: tenants, media types of texts and data, data that is no object (it becomes {"value": ...}).
package v03

import (
	"strings"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/internal/a2a"
)

// Version is the protocol version as a card of 0.3 has it.
const Version = "0.3.0"

// HeaderExtensions is A2A-Extensions as 0.3 called it.
const HeaderExtensions = "X-A2A-Extensions"

// Speaks reports whether a request of this version means 0.3; one that says nothing does.
func Speaks(version string) bool {
	v := strings.TrimSpace(version)
	if v == "" || v == a2a.Legacy {
		return true
	}
	patch, ok := strings.CutPrefix(v, a2a.Legacy+".")
	return ok && patch != "" && strings.Trim(patch, "0123456789") == ""
}

// Final reports whether an event is the last one of its interaction: a lone message, or a status that ends the task or asks for something.
func Final(m *pb.StreamResponse) bool {
	switch p := m.GetPayload().(type) {
	case *pb.StreamResponse_Message:
		return true
	case *pb.StreamResponse_StatusUpdate:
		return finalState(p.StatusUpdate.GetStatus().GetState())
	default:
		return false
	}
}

func finalState(s pb.TaskState) bool {
	switch s {
	case pb.TaskState_TASK_STATE_UNSPECIFIED, pb.TaskState_TASK_STATE_SUBMITTED, pb.TaskState_TASK_STATE_WORKING:
		return false
	default:
		return true
	}
}
