package command

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/internal/phase"
)

// instanceURL gives the base URL of an instance's HTTP door.
func instanceURL(endpoint string) string {
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	return strings.TrimSuffix(endpoint, "/")
}

// doorClient is the HTTP client for instances. Answers may take long, connecting may not.
func doorClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		DisableKeepAlives: true,
	}}
}

// instanceClient is doorClient for what may be asked over TLS and with a key.
func (c *cli) instanceClient() (*http.Client, error) {
	ctx, err := c.currentContext()
	if err != nil {
		return nil, err
	}
	roots, err := c.roots(ctx)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots},
			TLSHandshakeTimeout: 5 * time.Second,
			DisableKeepAlives:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a key goes nowhere else
	}, nil
}

// fetchJSON reads one JSON document from an instance.
func fetchJSON(ctx context.Context, url string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := doorClient().Do(req)
	if err != nil {
		return nil, failf(exitUnreachable, "is the instance's process alive? agentctl status", "ask the instance: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return nil, failf(exitUnreachable, "", "read %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, failf(codeOfHTTP(resp.StatusCode), "", "%s: %s: %s", url, resp.Status, bytes.TrimSpace(b))
	}
	if !json.Valid(b) {
		return nil, failf(exitFailure, "", "%s: the answer is not JSON", url)
	}
	return b, nil
}

// codeOfHTTP gives the exit code of an instance's answer.
func codeOfHTTP(status int) int {
	switch status {
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict:
		return exitConflict
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitPermission
	case http.StatusServiceUnavailable, http.StatusBadGateway:
		return exitUnreachable
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return exitTimeout
	default:
		return exitFailure
	}
}

// reachable gives the instances that can be asked, those that serve what they should first.
func reachable(d statusDoc) []instanceDoc {
	var out []instanceDoc
	for _, i := range d.Instances {
		if live(i) && i.Endpoint != "" {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b instanceDoc) int { return rank(a) - rank(b) })
	return out
}

func rank(i instanceDoc) int {
	switch {
	case i.Phase == string(phase.Applied):
		return 0
	case i.Phase == string(phase.Degraded):
		return 1
	case i.Running.Config != "":
		return 2
	default:
		return 3
	}
}

// target finds AGENT, AGENT/INSTANCE, or an instance's id alone, with its agent.
func (cl *client) target(ctx context.Context, word string) (d statusDoc, instance string, err error) {
	agent, instance, _ := strings.Cut(strings.TrimPrefix(word, "agent/"), "/")
	s, err := cl.getStatus(ctx, agent)
	if exitCode(err) == exitNotFound && instance == "" {
		return cl.ofInstance(ctx, word)
	}
	if err != nil {
		return d, "", err
	}
	return toStatus(s), instance, nil
}

func (cl *client) ofInstance(ctx context.Context, id string) (statusDoc, string, error) {
	all, err := cl.statuses(ctx)
	if err != nil {
		return statusDoc{}, "", err
	}
	for _, d := range all {
		for _, i := range d.Instances {
			if i.ID == id {
				return d, id, nil
			}
		}
	}
	return statusDoc{}, "", failf(exitNotFound, "agentctl status", "no agent and no instance %q in namespace %s", id, cl.namespace)
}

// noInstance says that nobody can be asked.
func noInstance(d statusDoc) error {
	return failf(exitUnreachable, fmt.Sprintf("start one: AGENT_NAME=%s agentd; see agentctl status %s", d.Agent, d.Agent),
		"agent %q (%s) has no instance that can be reached", d.Agent, d.Condition)
}
