package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// operator does what the page says that an operator does, with the image's agentctl.
type operator struct {
	t    *testing.T
	w    *world
	home string
	ca   string
}

// ctl runs agentctl and gives what it printed.
func (o *operator) ctl(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(o.t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, o.w.bin["agentctl"], args...)
	cmd.Env = []string{"HOME=" + o.home, "PATH=" + o.home}
	cmd.Dir = filepath.Join("..", "..")
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("agentctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func (o *operator) must(args ...string) string {
	o.t.Helper()
	out, err := o.ctl("", args...)
	if err != nil {
		o.t.Fatal(err)
	}
	return out
}

// login spends the bootstrap token that a control plane keeps in a folder, at its people door.
func (o *operator) login(servers, tokenFile string) {
	o.t.Helper()
	var token []byte
	eventually(o.t, 20*time.Second, func() (err error) {
		token, err = os.ReadFile(tokenFile) //nolint:gosec // G304: of this test's folder
		return err
	})
	if _, err := o.ctl(string(token), "login", "--bootstrap", "--server", servers, "--ca-file", o.ca); err != nil {
		o.t.Fatal(err)
	}
}

// get reads a page of a people door as an administrator.
func (o *operator) get(url string) (string, error) {
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(o.t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(o.home, ".config", "agentry", "*token*"))
	if more, _ := filepath.Glob(filepath.Join(o.home, ".config", "agentry", "*", "*")); err == nil {
		files = append(files, more...)
	}
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(text), "agt_") { //nolint:gosec // G304: of this test's folder
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(text)))
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, text)
	}
	return string(text), err
}

// ask asks an instance and gives its answer.
func ask(ctx context.Context, door, text string) (string, error) {
	body := fmt.Sprintf(`{"messages":[{"role":"user","content":%q}]}`, text)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+door+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text2, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", door, resp.Status, text2)
	}
	var doc struct {
		Choices []struct {
			Message struct{ Content string }
		}
	}
	if err := json.Unmarshal(text2, &doc); err != nil || len(doc.Choices) == 0 {
		return "", fmt.Errorf("%s: no answer in %s: %w", door, text2, err)
	}
	return doc.Choices[0].Message.Content, nil
}

// caller asks instances all the time and counts.
type caller struct {
	asked  atomic.Int64
	mu     sync.Mutex // guards failed
	failed []string
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func callAll(ctx context.Context, doors []string) *caller {
	ctx, cancel := context.WithCancel(ctx)
	c := &caller{cancel: cancel}
	for _, door := range doors {
		c.done.Go(func() {
			beat := time.NewTicker(40 * time.Millisecond)
			defer beat.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-beat.C:
				}
				_, err := ask(context.WithoutCancel(ctx), door, "hello")
				c.asked.Add(1)
				if err != nil {
					c.mu.Lock()
					c.failed = append(c.failed, err.Error())
					c.mu.Unlock()
				}
			}
		})
	}
	return c
}

// more waits until n questions have been answered, or have failed, that were not yet when it was called.
func (c *caller) more(t *testing.T, n int64) {
	t.Helper()
	want := c.asked.Load() + n
	eventually(t, 20*time.Second, func() error {
		if now := c.asked.Load(); now < want {
			return fmt.Errorf("%d questions asked, waiting for %d", now, want)
		}
		return nil
	})
}

// stop gives how many were asked, and what failed.
func (c *caller) stop() (int64, []string) {
	c.cancel()
	c.done.Wait()
	return c.asked.Load(), c.failed
}

// eventually tries until it works or the time is over.
func eventually(t *testing.T, within time.Duration, try func() error) {
	t.Helper()
	limit := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("after %s: %v", within, err)
		}
		time.Sleep(100 * time.Millisecond) // between two tries of a poll with a deadline
	}
}
