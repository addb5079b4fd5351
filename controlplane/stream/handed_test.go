package stream

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// Each version of a credential is told once per stream, however often it is sent on it.
func TestWhatAStreamHandsOutIsToldOnce(t *testing.T) {
	t.Parallel()
	var told []string
	h := &Hub{cfg: Config{HandedOut: func(id snapshot.InstanceID, credential string, version int64) {
		told = append(told, fmt.Sprintf("%s %s@%d", id.Instance, credential, version))
	}}}
	for _, instance := range []string{"a", "b"} {
		c := &conn{hub: h, key: fleet.Key{ID: snapshot.InstanceID{Namespace: "default", Agent: "helper", Instance: instance}}}
		for _, versions := range [][]int64{{1, 1}, {1, 1}, {2, 1}, {2, 1}, {1, 1}} {
			c.tell([]*pushv1.CredentialValue{{Name: "key", Version: versions[0]}, {Name: "other", Version: versions[1]}})
		}
		c.tell(nil)
	}
	want := []string{
		"a key@1", "a other@1", "a key@2", "a key@1",
		"b key@1", "b other@1", "b key@2", "b key@1",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Error(diff)
	}
	(&conn{hub: &Hub{}}).tell([]*pushv1.CredentialValue{{Name: "key", Version: 1}}) // nobody asked
}
