package redis_test

import (
	"os"
	"strings"
	"testing"

	"github.com/agentry/agentry/test/harness"
)

// docs/redis.md gives the user that the tests of memory and suspended runs use.
func TestDocumentedUser(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	want := "ACL SETUSER " + harness.RedisACL("support-desk", "PASSWORD", "default", "support-desk") + "\n"
	if !strings.Contains(string(b), want) {
		t.Errorf("docs/redis.md lacks the line\n%s", want)
	}
}
