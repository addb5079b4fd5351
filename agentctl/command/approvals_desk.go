package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/internal/secret"
)

const (
	// deskDeadline bounds one question to one instance, atOnce how many are asked side by side.
	deskDeadline = 10 * time.Second
	atOnce       = 16
)

// desk asks the REST doors of an agent's instances about suspended runs.
type desk struct {
	c      *cli
	cl     *client
	key    secret.Value
	client *http.Client
}

func (c *cli) desk(cl *client, key agentKey) (*desk, error) {
	client, err := c.instanceClient()
	if err != nil {
		return nil, err
	}
	return &desk{c: c, cl: cl, key: key.value(c), client: client}, nil
}

// deskAt is one instance that can be asked.
type deskAt struct {
	agent string
	instanceDoc
}

func (p deskAt) String() string { return fmt.Sprintf("instance %s of agent %q", p.ID, p.agent) }

// places gives the live instances of an agent, or of every agent; one that is named and has none is an error.
func (d *desk) places(ctx context.Context, agent string) ([]deskAt, error) {
	var of []statusDoc
	if agent != "" {
		s, err := d.cl.getStatus(ctx, agent)
		if err != nil {
			return nil, fmt.Errorf("agent %q: %w", agent, err)
		}
		of = []statusDoc{toStatus(s)}
	} else {
		all, err := d.cl.statuses(ctx)
		if err != nil {
			return nil, err
		}
		of = all
	}
	var out []deskAt
	for _, s := range of {
		for _, i := range reachable(s) {
			out = append(out, deskAt{s.Agent, i})
		}
	}
	if agent != "" && len(out) == 0 {
		return nil, noInstance(of[0])
	}
	return out, nil
}

// list gives the runs of an agent, or of every agent, newest first, each once. whole says that every instance was asked; it is an error
// where none could be.
func (d *desk) list(ctx context.Context, agent string, all bool) (docs []approvalDoc, whole bool, err error) {
	places, err := d.places(ctx, agent)
	if err != nil {
		return nil, false, err
	}
	query := "?state=" + stateWaiting
	if all {
		query = "?state=all"
	}
	found := map[string]*approvalDoc{}
	var mu sync.Mutex // guards found
	asked, failed := d.each(places, func(p deskAt) error {
		var got struct {
			Approvals []approvalDoc `json:"approvals"`
		}
		if err := d.ask(ctx, p, http.MethodGet, query, nil, &got); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, a := range got.Approvals {
			if known := found[a.ID]; known != nil {
				known.Instances = append(known.Instances, p.ID)
				continue
			}
			a.Instances = []string{p.ID}
			found[a.ID] = &a
		}
		return nil
	})
	if asked == 0 && len(failed) > 0 {
		return nil, false, failed[0]
	}
	if ctx.Err() == nil {
		for _, f := range failed {
			d.c.note("warning: %v", f)
		}
	}
	docs = []approvalDoc{}
	for _, a := range found {
		slices.Sort(a.Instances)
		docs = append(docs, *a)
	}
	slices.SortFunc(docs, func(a, b approvalDoc) int {
		if n := b.CreatedAt.Compare(a.CreatedAt); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return docs, len(failed) == 0, nil
}

// each asks every place, a few at once, and counts those that answered. One that has no such door at all counts for nothing: an agent
// without approvals may be old.
func (d *desk) each(places []deskAt, ask func(deskAt) error) (asked int, failed []error) {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards asked and failed
	free := make(chan struct{}, atOnce)
	for _, p := range places {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			err := ask(p)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				asked++
			case exitCode(err) != exitNotFound:
				failed = append(failed, err)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return asked, failed
}

// ask puts one question below /api/v1/approvals and reads the answer.
func (d *desk) ask(ctx context.Context, p deskAt, method, path string, body, into any) error {
	within, cancel := context.WithTimeout(ctx, deskDeadline)
	defer cancel()
	var send io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(within, method, instanceURL(p.Endpoint)+"/api/v1/approvals"+path, send)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if err := authorize(req, d.key); err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		code := exitUnreachable
		if within.Err() != nil {
			code = exitTimeout
		}
		return failf(code, "agentctl status "+p.agent, "ask %s: %w", p, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	if err != nil {
		return failf(exitUnreachable, "", "read the answer of %s: %w", p, err)
	}
	if resp.StatusCode/100 != 2 {
		return deskRefusal(p, resp, b)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return failf(exitFailure, "", "what %s answers is no approval: %w", p, err)
	}
	return nil
}

// deskRefusal gives the error of an answer that isn't a good one.
func deskRefusal(p deskAt, resp *http.Response, body []byte) error {
	text, hint := resp.Status, ""
	var e chatError
	if json.Unmarshal(body, &e) == nil && e.Error != nil {
		text = e.Error.Message
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		hint = hintKey
	case http.StatusForbidden:
		hint = "give the key of an approver (expose.auth.keys, approver: true) by AGENTCTL_AGENT_KEY or --key"
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return failf(exitUsage, "", "%s: %s", p, text)
	}
	return failf(codeOfHTTP(resp.StatusCode), hint, "%s: %s", p, text)
}

// find gives a run by its id, or by the beginning of one that waits, with an instance that holds it.
func (d *desk) find(ctx context.Context, agent, id string) (approvalDoc, deskAt, error) {
	places, err := d.places(ctx, agent)
	if err != nil {
		return approvalDoc{}, deskAt{}, err
	}
	type hit struct {
		doc approvalDoc
		at  deskAt
	}
	var mu sync.Mutex // guards hits
	hits := map[string]hit{}
	path := "/" + url.PathEscape(id)
	_, failed := d.each(places, func(p deskAt) error {
		var found []approvalDoc
		var one approvalDoc
		err := d.ask(ctx, p, http.MethodGet, path, nil, &one)
		switch {
		case err == nil:
			found = []approvalDoc{one}
		case exitCode(err) == exitNotFound && len(id) >= minPrefix:
			var got struct {
				Approvals []approvalDoc `json:"approvals"`
			}
			if err = d.ask(ctx, p, http.MethodGet, "?state="+stateWaiting, nil, &got); err != nil {
				return err
			}
			for _, a := range got.Approvals {
				if strings.HasPrefix(a.ID, id) {
					found = append(found, a)
				}
			}
		default:
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, a := range found {
			if known, ok := hits[a.ID]; !ok || p.ID < known.at.ID {
				hits[a.ID] = hit{a, p}
			}
		}
		return nil
	})
	switch {
	case len(hits) > 1:
		return approvalDoc{}, deskAt{}, failf(exitUsage, "agentctl approvals list", "%d runs begin with %q: give more of the id", len(hits), id)
	case len(hits) == 0 && len(failed) > 0:
		return approvalDoc{}, deskAt{}, failed[0]
	case len(hits) == 0:
		return approvalDoc{}, deskAt{}, failf(exitNotFound, "agentctl approvals list", "no run %q waits in namespace %s", id, d.cl.namespace)
	}
	for _, h := range hits {
		h.doc.Instances = []string{h.at.ID}
		return h.doc, h.at, nil
	}
	return approvalDoc{}, deskAt{}, nil
}

// minPrefix is how much of an id must be given.
const minPrefix = 6
