package stream

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/agentry/agentry/controlplane/fleet"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// What a newer agentd says in words of its own is passed over and counted; the stream goes on.
func TestANewerAgentdIsPassedOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, b := config(10, 1, "agent/x=a"), config(11, 2, "agent/x=b")
	w.set(a)
	field := protowire.AppendVarint(protowire.AppendTag(nil, 901, protowire.VarintType), 7)
	h := hello("i1")
	h.ProtoReflect().SetUnknown(field)
	p := w.dial(h)
	m := p.expect("snapshot 1 g10 1[agent/x]")
	member := &pushv1.StreamRequest{}
	member.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 90, protowire.BytesType), field))
	p.send(member)
	p.report(nonce(m), pushv1.Phase(77), token(a), nil)
	report := &pushv1.Report{Nonce: nonce(m), Phase: applied, Desired: token(a), Running: token(a)}
	report.ProtoReflect().SetUnknown(field)
	p.send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: report}})
	w.until("applied", phases("APPLIED"))
	w.set(b)
	p.expect("snapshot 2 g11 1[agent/x]")
	if got := w.hub.Stats().Unknown; got != 2 {
		t.Errorf("%d unknown words were counted, want 2", got)
	}
}

func TestBeatsCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := config(10, 1, "agent/x=a")
	w.set(a)
	p := w.dial(hello("i1"))
	p.report(nonce(p.expect("snapshot 1 g10 1[agent/x]")), applied, token(a), token(a))
	for range 2 {
		p.send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Beat{Beat: &pushv1.Beat{
			Running: token(a), InFlight: 3, Usage: []*pushv1.Usage{{
				Config: "1-abcdef01", Requests: 4, Errors: 1, LatencyBuckets: []uint64{1, 3}, InputTokens: 5, OutputTokens: 6, CostUsd: .5,
			}},
		}}})
	}
	p.report(0, applied, token(a), token(a), unreachable()) // a barrier: the beats were read before it
	w.until("the barrier", func(all []fleet.Instance) bool { return len(all) == 1 && len(all[0].Faults) == 1 })
	want := fleet.Usage{Requests: 8, Errors: 2, Latency: [fleet.LatencyBuckets]uint64{2, 6}, InputTokens: 10, OutputTokens: 12, CostUSD: 1}
	if got := w.table.Usage(); len(got) != 1 || got[0].Config != "1-abcdef01" || got[0].Usage != want {
		t.Errorf("usage %+v", got)
	}
	if i := w.table.Agent(ns, helper)[0]; i.InFlight != 3 || i.Requests != 8 || i.Errors != 2 {
		t.Errorf("instance %+v", i)
	}
}
