package redis

import (
	"slices"
	"sync"

	"github.com/agentry/agentry/internal/secret"
)

// Clients shares Clients by use count, so that a change of strategies reconnects nothing. Its zero value is ready.
type Clients struct {
	mu    sync.Mutex // guards items and what is in them
	items map[string]*lease
}

// lease is one Client in use, with the credential functions of its users: the newest one counts.
type lease struct {
	client *Client
	users  []*func() secret.Value
}

// Take gives the Client of an address and a credential's name, made of cfg if there is none; release gives it back, and the last release
// closes it. The users of one Client have the same Prefix. The credential function of whoever took it last is asked.
func (p *Clients) Take(cfg Config, credential string) (c *Client, release func(), err error) {
	key := cfg.Address + "\n" + credential + "\n" + cfg.Prefix
	if cfg.Credential == nil {
		cfg.Credential = func() secret.Value { return secret.Value{} }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.items[key]
	if l == nil {
		if c, err = New(cfg); err != nil {
			return nil, nil, err
		}
		if p.items == nil {
			p.items = map[string]*lease{}
		}
		l = &lease{client: c}
		p.items[key] = l
	}
	user := &cfg.Credential
	l.users = append(l.users, user)
	l.client.credential.Store(user)
	return l.client, sync.OnceFunc(func() { p.put(key, l, user) }), nil
}

func (p *Clients) put(key string, l *lease, user *func() secret.Value) {
	p.mu.Lock()
	l.users = slices.DeleteFunc(l.users, func(u *func() secret.Value) bool { return u == user })
	last := len(l.users) == 0
	if last {
		delete(p.items, key)
	} else {
		l.client.credential.Store(l.users[len(l.users)-1])
	}
	p.mu.Unlock()
	if last {
		_ = l.client.Close() // closing connections has no consequence for anybody
	}
}
