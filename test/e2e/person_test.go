package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// person is somebody with agentctl and a home of their own: no token but what they log in with.
type person struct {
	w    *world
	name string
	home string
	env  []string
}

// person makes one who is to talk to the people door at server ("" for the world's own); env adds to the environment.
func (w *world) person(t *testing.T, name, server string, env ...string) person {
	t.Helper()
	if server == "" {
		server = "http://" + w.cp.People
	}
	p := person{w: w, name: name, home: filepath.Join(w.Dir, "home-"+name)}
	if err := os.MkdirAll(p.home, 0o700); err != nil {
		t.Fatal(err)
	}
	p.env = append([]string{"HOME=" + p.home, "XDG_CONFIG_HOME=" + p.home, "XDG_STATE_HOME=" + p.home, "NO_COLOR=1", "AGENTCTL_SERVER=" + server}, env...)
	return p
}

// run runs agentctl with text on standard input.
func (p person) run(t *testing.T, stdin string, args ...string) harness.Out {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bin, err := filepath.Abs(filepath.Join(binDir, "agentctl"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env, cmd.Dir, cmd.Stdin = append([]string{"PATH=" + os.Getenv("PATH")}, p.env...), p.home, strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	out := harness.Out{Stdout: stdout.String(), Stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		out.Code = exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return out
}

// ok runs agentctl, wants exit code 0 and gives what it printed.
func (p person) ok(t *testing.T, args ...string) string {
	t.Helper()
	return p.wants(t, 0, args...).Stdout
}

// wants runs agentctl and wants an exit code.
func (p person) wants(t *testing.T, code int, args ...string) harness.Out {
	t.Helper()
	out := p.run(t, "", args...)
	if out.Code != code {
		t.Fatalf("%s: agentctl %v: exit %d, want %d:\n%s%s\ncontrolplane:\n%s", p.name, args, out.Code, code, out.Stdout, out.Stderr, p.w.cp.Output())
	}
	return out
}

// start runs agentctl beside the test.
func (p person) start(t *testing.T, args ...string) *harness.Proc {
	t.Helper()
	proc, err := p.w.Start(fmt.Sprintf("agentctl-%s-%s", p.name, args[0]), "agentctl", p.env, args...)
	if err != nil {
		t.Fatal(err)
	}
	return proc
}

// printed waits until a process printed what matches, and gives the last group.
func printed(t *testing.T, p *harness.Proc, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	var found []string
	eventually(t, 15*time.Second, func(context.Context) error {
		if found = re.FindStringSubmatch(p.Output()); found == nil {
			return fmt.Errorf("%s has not printed %s:\n%s", p.Name, pattern, p.Output())
		}
		return nil
	})
	return found[len(found)-1]
}

var (
	formTag    = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)".*?</form>`)
	inputTag   = regexp.MustCompile(`<input[^>]*>`)
	inputName  = regexp.MustCompile(`name="([^"]*)"`)
	inputValue = regexp.MustCompile(`value="([^"]*)"`)
)

// browse is what a person does in a browser: it opens an address and sends off each form that comes back, logged in as user, until a page
// has none. It gives the last page.
func browse(t *testing.T, address, user string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	page := turn(t, client, http.MethodGet, address, nil)
	for range 8 {
		form := formTag.FindStringSubmatch(page)
		if form == nil {
			return page
		}
		values := url.Values{}
		for _, tag := range inputTag.FindAllString(form[0], -1) {
			name, value := inputName.FindStringSubmatch(tag), inputValue.FindStringSubmatch(tag)
			switch {
			case name == nil:
			case name[1] == "login":
				values.Set("login", user)
			case name[1] == "password":
				values.Set("password", "any")
			case value != nil:
				values.Set(name[1], html.UnescapeString(value[1]))
			}
		}
		page = turn(t, client, http.MethodPost, html.UnescapeString(form[1]), values)
	}
	t.Fatalf("one form leads to another:\n%s", page)
	return ""
}

// turn asks for one page.
func turn(t *testing.T, client *http.Client, method, address string, form url.Values) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v\n%s", method, address, resp.Status, err, page)
	}
	return string(page)
}
