package view

import (
	"context"
	"runtime"
	"strings"
	"sync"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// inParallelFrom is how many records are worth more than one core.
const inParallelFrom = 64

// item is one event, decoded outside of the view's lock, so that readers wait for the index only.
type item struct {
	store.Event

	id   headID                       // of a head, or of the agent of an applied config or a refusal
	hash manifest.Hash                // of a blob, an applied config or a refusal
	rec  any                          // what the value says; nil for a deletion and for what is taken as bytes
	read map[manifest.Hash]*specFacts // an agent's specs in play, as far as they weren't known
	err  error                        // why it is left out
}

// prepared is what a batch or a listing brings.
type prepared struct {
	items []item
	ready map[manifest.Hash][]byte // blobs that heads name from now on
}

// prepare decodes events and reads what they refer to. Only the goroutine that changes the view calls it, so it may read
// the index without the lock. An error is the store's: nothing was taken in.
func (v *View) prepare(ctx context.Context, events []store.Event) (prepared, error) {
	p := prepared{items: v.decodeAll(events), ready: map[manifest.Hash][]byte{}}
	var wanted []manifest.Hash
	for _, it := range p.items {
		if it.rec == nil && it.err == nil && !it.Deleted && strings.HasPrefix(it.Key, blobPrefix) {
			p.ready[it.hash] = it.Value
		}
		wanted = append(wanted, namedBy(it.rec)...)
	}
	for _, h := range wanted {
		if err := v.provide(ctx, h, p.ready); err != nil {
			return prepared{}, err
		}
	}
	v.readSpecs(p)
	return p, nil
}

// provide makes sure that the bytes of a blob are at hand, if the store has it.
func (v *View) provide(ctx context.Context, h manifest.Hash, ready map[manifest.Hash][]byte) error {
	if _, ok := ready[h]; ok {
		return nil
	}
	if b, ok := v.blobs.held(h); ok {
		ready[h] = b
		return nil
	}
	if _, ok := v.blobs.known[h]; !ok {
		return nil
	}
	b, err := v.fetch(ctx, h)
	switch {
	case err == nil:
		ready[h] = b
		return nil
	case errs.Is(err, errs.NotFound), errs.Is(err, errs.Internal): // it is gone or broken: as if it had never been there
		return nil
	default:
		return err
	}
}

// namedBy gives the blobs that a decoded head keeps in memory.
func namedBy(rec any) []manifest.Hash {
	switch n := rec.(type) {
	case *agentNode:
		return inPlay(n.head.State)
	case *node[PromptHead, snapshot.PromptHead]:
		return inUse(n.head)
	case *node[MCPHead, snapshot.MCPHead]:
		return current(n.head)
	default:
		return nil
	}
}

// inUse gives a prompt's labelled versions and its newest.
func inUse(h PromptHead) []manifest.Hash {
	var out []manifest.Hash
	for i, r := range h.Versions {
		used := i == len(h.Versions)-1
		for _, version := range h.Labels {
			used = used || version == r.Version
		}
		if used && !r.Hash.IsZero() {
			out = append(out, r.Hash)
		}
	}
	return out
}

// current gives an MCP entry's current version.
func current(h MCPHead) []manifest.Hash {
	for _, r := range h.Versions {
		if r.Version == h.Current && !r.Hash.IsZero() {
			return []manifest.Hash{r.Hash}
		}
	}
	return nil
}

// readSpecs takes the references out of the specs that agents name now and didn't before.
func (v *View) readSpecs(p prepared) {
	inParallel(len(p.items), func(i int) {
		it := &p.items[i]
		a, ok := it.rec.(*agentNode)
		if !ok {
			return
		}
		old := v.agents[it.id]
		for _, h := range inPlay(a.head.State) {
			b, there := p.ready[h]
			if !there || (old != nil && old.active[h] != nil) {
				continue
			}
			v.parsed.Add(1)
			f, err := readSpec(it.id.namespace, b)
			if err != nil {
				continue // told when it is linked
			}
			if it.read == nil {
				it.read = map[manifest.Hash]*specFacts{}
			}
			it.read[h] = f
		}
	})
}

func (v *View) decodeAll(events []store.Event) []item {
	items := make([]item, len(events))
	inParallel(len(events), func(i int) { items[i] = v.decode(events[i]) })
	return items
}

// decode reads one event. It touches nothing but the event.
func (v *View) decode(e store.Event) item {
	it := item{Event: e}
	switch {
	case strings.HasPrefix(e.Key, headPrefix):
		it.err = it.decodeHead()
	case strings.HasPrefix(e.Key, blobPrefix):
		var ok bool
		if it.hash, ok = parseHash(strings.TrimPrefix(e.Key, blobPrefix)); !ok {
			it.err = errs.New(errs.Invalid, "not a blob key")
		} else if !e.Deleted && manifest.Sum(e.Value) != it.hash {
			it.err = errs.New(errs.Invalid, "blob of %d bytes doesn't have its key's hash", len(e.Value))
		}
		return it
	case strings.HasPrefix(e.Key, appliedPrefix):
		it.err = it.decodeOfAgent(appliedPrefix, func() (err error) {
			it.rec, err = decodeApplied(e.KV, it.hash)
			return err
		})
	case strings.HasPrefix(e.Key, refusalPrefix):
		it.err = it.decodeOfAgent(refusalPrefix, func() error { return decodeInto[RefusalRecord](&it) })
	case strings.HasPrefix(e.Key, movePrefix) && !e.Deleted:
		it.err = decodeInto[MoveRecord](&it)
	case e.Key == ClusterKey && !e.Deleted:
		it.err = decodeInto[Cluster](&it)
	default:
		return it
	}
	v.decoded.Add(1)
	if it.rec != nil {
		it.Value = nil // what it says is in rec
	}
	return it
}

func decodeInto[R Record](it *item) error {
	r, err := Decode[R](it.Value)
	if err == nil {
		it.rec = r
	}
	return err
}

func (it *item) decodeOfAgent(prefix string, decode func() error) error {
	var ok bool
	if it.id, it.hash, ok = parseConfig(it.Key, prefix); !ok {
		return errs.New(errs.Invalid, "not a key of an agent's config")
	}
	if it.Deleted {
		return nil
	}
	return decode()
}

func (it *item) decodeHead() error {
	var ok bool
	if it.id, ok = parseHead(it.Key); !ok {
		return errs.New(errs.Invalid, "not a head key")
	}
	switch it.id.kind {
	case manifest.KindAgent, manifest.KindPrompt, manifest.KindMCP, manifest.KindCredential:
	default:
		return errs.New(errs.Unsupported, "head of unknown kind %q", it.id.kind)
	}
	if it.Deleted {
		return nil
	}
	switch it.id.kind {
	case manifest.KindAgent:
		h, err := DecodeAgent(it.KV)
		if err != nil {
			return err
		}
		it.rec = &agentNode{node: node[AgentHead, snapshot.AgentHead]{
			head: h, built: agentFacts(h, it.ModRevision), create: it.CreateRevision, mod: it.ModRevision,
		}}
	case manifest.KindPrompt:
		h, err := Decode[PromptHead](it.Value)
		if err != nil {
			return err
		}
		it.rec = promptNode(h, it.KV)
	case manifest.KindMCP:
		h, err := Decode[MCPHead](it.Value)
		if err != nil {
			return err
		}
		n, err := mcpNode(h, it.KV)
		if err != nil {
			return err
		}
		it.rec = n
	default:
		h, err := Decode[CredentialHead](it.Value)
		if err != nil {
			return err
		}
		it.rec = credentialNode(h, it.KV)
	}
	return nil
}

// inParallel calls f for 0 to n-1, on several cores if n is worth it, and returns when all is done.
func inParallel(n int, f func(i int)) {
	workers := runtime.GOMAXPROCS(0)
	if n < inParallelFrom || workers == 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	size := (n + workers - 1) / workers
	for from := 0; from < n; from += size {
		wg.Go(func() {
			for i := from; i < min(from+size, n); i++ {
				f(i)
			}
		})
	}
	wg.Wait()
}
