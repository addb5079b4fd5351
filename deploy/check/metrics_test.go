package check

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

var metricLine = regexp.MustCompile(`(?m)^# TYPE (agentry_[a-z_0-9]+) `)

// metricsAreInThePage scrapes both kinds of process: what they tell has to be in the operator's page, with what it means.
func metricsAreInThePage(t *testing.T, o *operator, server, door string) {
	t.Helper()
	page := read(t, "docs/operations.md")
	var all strings.Builder
	eventually(t, 10*time.Second, func() error {
		text, err := o.get(server + "/metrics")
		all.WriteString(text)
		return err
	})
	resp, err := http.Get("http://" + door + "/metrics") //nolint:gosec,noctx // G107: a door of this test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(&all, resp.Body); err != nil {
		t.Fatal(err)
	}
	found := metricLine.FindAllStringSubmatch(all.String(), -1)
	if len(found) < 30 {
		t.Errorf("only %d metrics were scraped", len(found))
	}
	for _, m := range found {
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/operations.md says nothing about the metric %s", m[1])
		}
	}
}
