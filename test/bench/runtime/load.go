package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// job is what a worker asks again and again.
type job struct {
	url     string
	body    []byte
	stream  bool
	session func(worker, n int) string                // "", or nil: stateless
	forget  func(worker, n int) bool                  // after the n-th request its session is deleted at the REST door; nil: never
	seen    func(http.Header)                         // nil: nobody looks
	call    func(context.Context, *http.Client) error // asks otherwise than by a chat completion; nil: not
	close   func()                                    // nil: nothing to close
}

// load is what a run of a job came to.
type load struct {
	took   []time.Duration // sorted
	failed int
	fault  error // the first
	wall   time.Duration
}

func (l load) rps() float64 { return float64(len(l.took)) / l.wall.Seconds() }

func (l load) quantile(q float64) float64 {
	if len(l.took) == 0 {
		return 0
	}
	return ms(l.took[min(int(q*float64(len(l.took))), len(l.took)-1)])
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// drive runs c workers for a while. A worker keeps its connection.
func drive(ctx context.Context, j job, c int, d time.Duration) load {
	if j.close != nil {
		defer j.close()
	}
	transport := &http.Transport{MaxIdleConnsPerHost: c}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	var mu sync.Mutex // guards all
	var all load
	var workers sync.WaitGroup
	began := time.Now()
	for i := range c {
		workers.Go(func() {
			var mine load
			for n := 0; time.Since(began) < d && ctx.Err() == nil; n++ {
				at := time.Now()
				if err := j.ask(ctx, client, i, n); err != nil {
					mine.failed++
					mine.fault = err
					continue
				}
				mine.took = append(mine.took, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all.took = append(all.took, mine.took...)
			all.failed += mine.failed
			if all.fault == nil {
				all.fault = mine.fault
			}
		})
	}
	workers.Wait()
	all.wall = time.Since(began)
	slices.Sort(all.took)
	return all
}

func (j job) ask(ctx context.Context, client *http.Client, worker, n int) error {
	if j.call != nil {
		return j.call(ctx, client)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, j.url+"/v1/chat/completions", bytes.NewReader(j.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if j.session != nil {
		if id := j.session(worker, n); id != "" {
			req.Header.Set("X-Session-Id", id)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	last := []byte(answer[len(answer)-20:])
	if j.stream {
		last = []byte("data: [DONE]\n\n")
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(b, last) {
		return fmt.Errorf("%w: %d %s", errNoAnswer, resp.StatusCode, b)
	}
	if j.seen != nil {
		j.seen(resp.Header)
	}
	if j.forget != nil && j.forget(worker, n) {
		return j.drop(ctx, client, j.session(worker, n))
	}
	return nil
}

// drop deletes a session.
func (j job) drop(ctx context.Context, client *http.Client, session string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, j.url+"/api/v1/sessions/"+session, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("delete the session %s: %s", session, resp.Status)
	}
	return nil
}

// eachEvent calls f with the data of each server-sent event until [DONE].
func eachEvent(r io.Reader, f func([]byte) error) error {
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		data, ok := bytes.CutPrefix(scan.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if string(data) == "[DONE]" {
			return nil
		}
		if err := f(data); err != nil {
			return err
		}
	}
	return scan.Err()
}
