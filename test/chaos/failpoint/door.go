package failpoint

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Variables that gofail's runtime reads at the start of a program built with failpoints.
const (
	doorVar  = "GOFAIL_HTTP"
	termsVar = "GOFAIL_FAILPOINTS"
)

// Crash are the terms by which a point that ends the process does so, once it is passed.
const Crash = "return"

// Sleep gives the terms by which whoever passes a point waits.
func Sleep(d time.Duration) string { return fmt.Sprintf("sleep(%d)", d.Milliseconds()) }

// DoorVar gives the variable by which a program listens at addr (loopback) for points to be armed.
func DoorVar(addr string) string { return doorVar + "=" + addr }

// TermsVar gives the variable by which points are armed from the start: name -> terms.
func TermsVar(terms map[string]string) string {
	var parts []string
	for name, t := range terms {
		parts = append(parts, name+"="+t)
	}
	return termsVar + "=" + strings.Join(parts, ";")
}

// Died tells whether a process ended at a point, from what it printed.
func Died(output, point string) bool {
	return strings.Contains(output, "panic: failpoint "+point)
}

// Door arms points in one process.
type Door struct {
	// Addr is host:port, as given to DoorVar.
	Addr string
	// Dial connects; nil: as usual. It is for processes in another network namespace.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Arm makes a point do what the terms say. A point that the program doesn't have is an error, so a misspelt name is no fault that
// never fires.
func (d Door) Arm(ctx context.Context, point, terms string) error {
	_, err := d.call(ctx, http.MethodPut, point, terms)
	return err
}

// Disarm ends it. A point that isn't armed is no error.
func (d Door) Disarm(ctx context.Context, point string) error {
	_, err := d.call(ctx, http.MethodDelete, point, "")
	if err != nil && strings.Contains(err.Error(), "failpoint is disabled") {
		return nil
	}
	return err
}

// Count tells how often the terms of an armed point were carried out. They must still be armed.
func (d Door) Count(ctx context.Context, point string) (int64, error) {
	body, err := d.call(ctx, http.MethodGet, point+"/count", "")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(body), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("failpoint %s: count %q", point, body)
	}
	return n, nil
}

func (d Door) call(ctx context.Context, method, path, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+d.Addr+"/"+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: d.Dial}}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("failpoint %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("failpoint %s: %w", path, err)
	}
	if resp.StatusCode >= 300 {
		return "", fmt.Errorf("failpoint %s: %d %s", path, resp.StatusCode, strings.TrimSpace(string(b)))
	}
	return string(b), nil
}

// List gives every point of the process with its terms, one "NAME=TERMS" a line.
func (d Door) List(ctx context.Context) (string, error) { return d.call(ctx, http.MethodGet, "", "") }
