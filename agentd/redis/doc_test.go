package redis_test

import (
	"os"
	"strings"
	"testing"

	"github.com/agentry/agentry/test/harness"
)

// The documents give the user that the tests of memory and suspended runs use.
func TestDocumentedUser(t *testing.T) {
	t.Parallel()
	for page, want := range map[string]string{
		"redis.md":  "ACL SETUSER " + harness.RedisACL("support-desk", "PASSWORD", "default", "support-desk"),
		"memory.md": "user " + harness.RedisACL("desk", "PASSWORD", "default", "support-desk"),
	} {
		b, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "\n"+want+"\n") {
			t.Errorf("docs/%s lacks the line\n%s", page, want)
		}
	}
}
