package registryapi

import (
	"context"

	"connectrpc.com/connect"

	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
)

// Resealer seals everything anew with the present key.
type Resealer interface {
	KeyID() string
	Run(ctx context.Context) (sealed, resealed int, err error)
}

// Reseal seals everything anew that isn't sealed with the first key of the key file.
func (s *Service) Reseal(ctx context.Context, _ *connect.Request[registryv1.ResealRequest]) (*connect.Response[registryv1.ResealResponse], error) {
	sealed, resealed, err := s.cfg.Reseal.Run(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&registryv1.ResealResponse{
		KeyId: s.cfg.Reseal.KeyID(), Sealed: int32(sealed), Resealed: int32(resealed), //nolint:gosec // G115: counts of objects in memory
	}), nil
}
