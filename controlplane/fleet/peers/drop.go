package peers

import (
	"github.com/agentry/agentry/controlplane/snapshot"
	peerv1 "github.com/agentry/agentry/gen/agentry/peer/v1"
	"github.com/agentry/agentry/internal/manifest"
)

// Drop ends an instance's retry of a config, wherever it is connected: releaser.Dropper. It doesn't wait for it.
func (p *Peers) Drop(id snapshot.InstanceID, config manifest.Token) {
	replica, desired, ok := p.cfg.Fleet.Holder(id)
	switch {
	case !ok || desired.Hash != config.Hash:
		return
	case replica == p.cfg.Self.ID:
		p.cfg.Drop(id)
		return
	}
	p.mu.Lock()
	l := p.links[replica]
	p.mu.Unlock()
	if l == nil {
		return
	}
	select {
	case l.drops <- &peerv1.Drop{Namespace: id.Namespace, Agent: id.Agent, Instance: id.Instance, Config: tokenToWire(config)}:
	default: // it is asked for again
	}
}

// dropped performs what a peer asked for, if the instance is here and still has to do with that config.
func (p *Peers) dropped(w *peerv1.Drop) {
	id := snapshot.InstanceID{Namespace: w.GetNamespace(), Agent: w.GetAgent(), Instance: w.GetInstance()}
	config, err := refOf(w.GetConfig())
	if err != nil {
		return
	}
	replica, desired, ok := p.cfg.Fleet.Holder(id)
	if ok && replica == p.cfg.Self.ID && desired.Hash == config.Token.Hash {
		p.cfg.Drop(id)
	}
}
