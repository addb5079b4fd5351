package app

import (
	"bufio"
	"context"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// orPlain lets plaintext in beside TLS, by the first byte, until every instance speaks TLS.
type orPlain struct {
	credentials.TransportCredentials
}

type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

// ServerHandshake looks which of the two it is.
func (o orPlain) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	_ = raw.SetReadDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(raw)
	first, err := r.Peek(1)
	if err != nil {
		return nil, nil, err
	}
	_ = raw.SetReadDeadline(time.Time{})
	if first[0] == 0x16 {
		return o.TransportCredentials.ServerHandshake(peeked{raw, r})
	}
	return insecure.NewCredentials().ServerHandshake(peeked{raw, r})
}

// Clone gives a copy.
func (o orPlain) Clone() credentials.TransportCredentials {
	return orPlain{o.TransportCredentials.Clone()}
}

func isPlain(ctx context.Context) bool {
	p, ok := peer.FromContext(ctx)
	return ok && p.AuthInfo != nil && p.AuthInfo.AuthType() == insecure.NewCredentials().Info().SecurityProtocol
}
