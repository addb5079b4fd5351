package etcdstore

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// membersOf asks the member in this process for all it knows, and the others at the doors that members have for each other whether they
// are alive: they have none for clients. ask is for that; nil: there are no others.
func membersOf(client *clientv3.Client, etcd *embed.Etcd, ask *http.Client) func(context.Context) []store.Member {
	return func(ctx context.Context) []store.Member {
		ctx, cancel := context.WithTimeout(ctx, memberWithin)
		defer cancel()
		all := etcd.Server.Cluster().Members()
		out := make([]store.Member, len(all))
		var asking sync.WaitGroup
		for i, m := range all {
			out[i] = store.Member{ID: uint64(m.ID), Name: m.Name, Learner: m.IsLearner, Leader: m.ID == etcd.Server.Leader()}
			asking.Go(func() {
				if m.ID == etcd.Server.MemberID() {
					status, err := client.Status(ctx, "")
					if err != nil {
						out[i].Fault = err.Error()
						return
					}
					take(&out[i], status)
					return
				}
				out[i].PeerURLs = m.PeerURLs
				var err error
				if out[i].Version, err = versionOf(ctx, ask, m.PeerURLs); err != nil {
					out[i].Fault = err.Error()
				}
			})
		}
		asking.Wait()
		return out
	}
}

// versionOf asks another member at its own door.
func versionOf(ctx context.Context, ask *http.Client, urls []string) (string, error) {
	if ask == nil || len(urls) == 0 {
		return "", errs.New(errs.Unavailable, "it can't be asked")
	}
	var v struct {
		Server string `json:"etcdserver"`
	}
	_, err := askPeer(ctx, ask, urls[0]+"/version", &v)
	return v.Server, err
}

// askPeer reads one JSON document from another member.
func askPeer(ctx context.Context, ask *http.Client, url string, into any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := ask.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return resp.Header, json.Unmarshal(b, into)
}
