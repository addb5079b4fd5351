package view

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Init ensures the cluster record: the first caller on an empty store makes an id of 128 random bits and epoch 1;
// of several at once one wins and all answer the same.
func Init(ctx context.Context, s store.Store) (Cluster, error) {
	kv, err := s.Get(ctx, ClusterKey)
	if errs.Is(err, errs.NotFound) {
		kv, err = create(ctx, s)
	}
	if err != nil {
		return Cluster{}, fmt.Errorf("cluster record: %w", err)
	}
	c, err := Decode[Cluster](kv.Value)
	if err != nil {
		return Cluster{}, fmt.Errorf("cluster record: %w", err)
	}
	if len(c.ID) != 32 || c.Epoch == 0 {
		return Cluster{}, errs.New(errs.Precondition, "cluster record: id %q, epoch %d: not written by agentry", c.ID, c.Epoch)
	}
	return c, nil
}

func create(ctx context.Context, s store.Store) (store.KV, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return store.KV{}, fmt.Errorf("random id: %w", err)
	}
	value := Encode(Cluster{ID: hex.EncodeToString(id[:]), Epoch: 1})
	_, err := s.Commit(ctx, store.Txn{If: []store.Cond{{Key: ClusterKey}}, Puts: []store.KV{{Key: ClusterKey, Value: value}}})
	if err != nil && !errs.Is(err, errs.Conflict) {
		return store.KV{}, err
	}
	return s.Get(ctx, ClusterKey)
}
