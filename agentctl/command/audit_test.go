package command

import (
	"strings"
	"testing"
)

// What is written between the end of a replica that had nothing to tell yet and the next one's watch is told all the same.
func TestAnAuditWatchLeavesNothingOut(t *testing.T) {
	t.Parallel()
	one := newReplica(t, map[string]string{
		"AuditList.json":  `{"response": {"entries": [{"seq": "12"}], "nextPageToken": "12"}}`,
		"AuditWatch.json": `{"messages": []}`,
	})
	two := newReplica(t, map[string]string{
		"AuditWatch.1.json": `{"messages": [{"entry": {"seq": "13", "type": "change"}}]}`,
		"AuditWatch.json":   `{"error": {"code": "permission_denied", "message": "enough"}}`,
	})
	out, told, code := ctl(t, []string{"audit", "-f", "-q"}, one, two)
	if code != exitPermission || strings.Count(out, "audit/13\n") != 1 {
		t.Fatalf("exit %d, printed %q, told %q", code, out, told)
	}
	for _, r := range []*replica{one, two} {
		if got := r.asked("AuditWatch.1"); !strings.Contains(got, `"sinceSeq":"12"`) {
			t.Errorf("a replica was asked %s", got)
		}
	}
}
