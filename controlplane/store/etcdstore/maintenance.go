package etcdstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// memberWithin bounds what one member is asked.
const memberWithin = 1500 * time.Millisecond

var _ store.Maintenance = (*Store)(nil)

// Full implements store.Maintenance.
func (s *Store) Full() <-chan struct{} { return s.full }

func (s *Store) noteFull() {
	select {
	case s.full <- struct{}{}:
	default:
	}
}

// Compact implements store.Maintenance.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	ctx, done, err := s.call(ctx)
	if err != nil {
		return err
	}
	defer done()
	if _, err := s.client.Compact(ctx, revision); err != nil && kindOf(err) != errs.OutOfRange {
		return s.fault("compact", err)
	}
	return nil
}

// Inspect implements store.Maintenance.
func (s *Store) Inspect(ctx context.Context) store.Condition {
	out := store.Condition{Kind: s.kind, QuotaBytes: s.quota}
	ctx, done, err := s.begin(ctx)
	if err != nil {
		out.Fault = err.Error()
		return out
	}
	defer done()
	var asking sync.WaitGroup
	asking.Go(func() {
		ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), memberWithin)
		defer cancel()
		resp, err := s.client.Get(ctx, "\x00", clientv3.WithKeysOnly())
		if err != nil {
			out.Fault = s.fault("read", err).Error()
			return
		}
		out.Revision = resp.Header.Revision
	})
	members := s.members(ctx)
	asking.Wait()
	slices.SortFunc(members, func(a, b store.Member) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	out.Members = members
	for _, m := range members {
		out.Revision = max(out.Revision, m.Revision)
		out.SizeBytes = max(out.SizeBytes, m.SizeBytes)
		if out.QuotaBytes == 0 {
			out.QuotaBytes = m.QuotaBytes
		}
	}
	return out
}

// members asks every member of an external etcd at its own door. A member that doesn't answer is named by what the others know.
func (r *route) members(ctx context.Context) []store.Member {
	type answer struct {
		status *clientv3.StatusResponse
		list   []*pb.Member
		err    error
	}
	answers := make([]answer, len(r.cfg.Endpoints))
	var asking sync.WaitGroup
	for i, endpoint := range r.cfg.Endpoints {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, memberWithin)
			defer cancel()
			client, err := newClient(r.cfg, endpoint, nil)
			if err != nil {
				answers[i].err = err
				return
			}
			defer func() { _ = client.Close() }()
			answers[i].status, answers[i].err = client.Status(ctx, endpoint)
			if answers[i].err != nil {
				return
			}
			// Not linearizable: it is answered without a quorum, too.
			list, err := pb.NewClusterClient(client.ActiveConnection()).MemberList(ctx, &pb.MemberListRequest{})
			if err == nil {
				answers[i].list = list.Members
			}
		})
	}
	asking.Wait()
	known := map[uint64]*store.Member{}
	var out []*store.Member
	for _, a := range answers {
		for _, m := range a.list {
			if known[m.ID] == nil {
				known[m.ID] = &store.Member{
					ID: m.ID, Name: m.Name, ClientURLs: m.ClientURLs, PeerURLs: m.PeerURLs, Learner: m.IsLearner,
					Fault: "not asked: none of the endpoints given is an address of its",
				}
				out = append(out, known[m.ID])
			}
		}
	}
	for i, a := range answers {
		m := withURL(out, r.cfg.Endpoints[i])
		if a.status != nil && known[a.status.Header.MemberId] != nil {
			m = known[a.status.Header.MemberId]
		}
		if m == nil {
			m = &store.Member{ClientURLs: []string{r.cfg.Endpoints[i]}}
			out = append(out, m)
		}
		if m.Fault = ""; a.err != nil {
			m.Fault = a.err.Error()
			continue
		}
		take(m, a.status)
	}
	members := make([]store.Member, 0, len(out))
	for _, m := range out {
		members = append(members, *m)
	}
	return members
}

// withURL finds the member that says to be at an endpoint.
func withURL(all []*store.Member, endpoint string) *store.Member {
	for _, m := range all {
		for _, u := range m.ClientURLs {
			if bare(u) == bare(endpoint) {
				return m
			}
		}
	}
	return nil
}

func bare(url string) string {
	_, after, found := strings.Cut(url, "://")
	if !found {
		after = url
	}
	return strings.TrimSuffix(after, "/")
}

// take notes what a member says of itself. The alarms of the others, which it knows too, are theirs to tell.
func take(m *store.Member, s *clientv3.StatusResponse) {
	m.ID, m.Version, m.Learner = s.Header.MemberId, s.Version, s.IsLearner
	m.SizeBytes, m.QuotaBytes, m.Revision, m.RaftIndex = s.DbSize, s.DbSizeQuota, s.Header.Revision, s.RaftIndex
	m.Leader = s.Leader == m.ID
	if s.Leader == 0 {
		m.Alarms = append(m.Alarms, "NO LEADER")
	}
	for _, e := range s.Errors {
		// "memberID:123 alarm:NOSPACE " or "etcdserver: no leader"
		if _, alarm, ok := strings.Cut(e, "alarm:"); ok && strings.Contains(e, fmt.Sprintf("memberID:%d ", m.ID)) {
			m.Alarms = append(m.Alarms, strings.TrimSpace(alarm))
		}
	}
}
