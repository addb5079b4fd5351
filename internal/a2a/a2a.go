// Package a2a is what both sides of the A2A protocol 1.0 share: its errors with their codes in every binding, its JSON, its versions and media
// types, and the signature of an agent's card. The wire's types are a2a-go's protobuf types; a door or a client brings the rest.
package a2a

import (
	"bytes"
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Version is the protocol version that is spoken, and Legacy the one that a request without a version means.
const (
	Version = "1.0"
	Legacy  = "0.3"
)

// The service parameters: HTTP headers, query parameters and gRPC metadata.
const (
	HeaderVersion    = "A2A-Version"
	HeaderExtensions = "A2A-Extensions"
	// HeaderToken carries a push notification's token.
	HeaderToken = "X-A2A-Notification-Token" // #nosec G101 -- the name of a header
)

// The media types.
const (
	MediaJSON   = "application/json"
	MediaA2A    = "application/a2a+json"
	MediaStream = "text/event-stream"
)

// The protocol bindings, as a card names them.
const (
	BindingJSONRPC = "JSONRPC"
	BindingHTTP    = "HTTP+JSON"
	BindingGRPC    = "GRPC"
)

// CardPath is where an agent's card is found, and KeysPath where the keys of its signatures are.
const (
	CardPath = "/.well-known/agent-card.json"
	KeysPath = "/.well-known/jwks.json"
)

// Speaks reports whether a request of this version is answered by the semantics of 1.0: patch numbers don't count.
func Speaks(version string) bool {
	v := strings.TrimSpace(version)
	if v == Version {
		return true
	}
	patch, ok := strings.CutPrefix(v, Version+".")
	return ok && patch != "" && strings.Trim(patch, "0123456789") == ""
}

// Extensions reads the values of A2A-Extensions.
func Extensions(values []string) []string {
	var out []string
	for _, v := range values {
		for uri := range strings.SplitSeq(v, ",") {
			if uri = strings.TrimSpace(uri); uri != "" {
				out = append(out, uri)
			}
		}
	}
	return out
}

// Marshal gives a message's JSON: camelCase, enums by name, defaults left out; the same bytes for the same message.
func Marshal(m proto.Message) (json.RawMessage, error) {
	b, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer // protojson puts spaces in at random
	out.Grow(len(b))
	if err := json.Compact(&out, b); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Unmarshal reads a message's JSON. Field names may be those of the JSON or of the proto; unknown fields are left out.
func Unmarshal(b []byte, m proto.Message) error {
	return protojson.UnmarshalOptions{DiscardUnknown: true, RecursionLimit: maxDepth}.Unmarshal(b, m)
}

// maxDepth bounds how deep what comes may be nested.
const maxDepth = 100
