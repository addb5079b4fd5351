package main

import (
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of a change are read and written by hand, for the same reason that h2 is: what an instance does with one must cost little
// beside what the server does. What is rare is left to package proto.

// The fields that are read and written, by message.
const (
	offerSnapshot protowire.Number = 2 // StreamResponse
	offerCurrent  protowire.Number = 3
	offerAbsent   protowire.Number = 4
	offerGoaway   protowire.Number = 7

	fieldNonce   protowire.Number = 1 // Snapshot, Current, Absent, Report
	fieldToken   protowire.Number = 2 // Snapshot, Current
	fieldContent protowire.Number = 4 // Snapshot
	fieldHash    protowire.Number = 3 // Token

	fieldReport  protowire.Number = 2 // StreamRequest
	fieldPhase   protowire.Number = 2 // Report
	fieldDesired protowire.Number = 3
	fieldRunning protowire.Number = 4

	fieldVersion       protowire.Number = 1 // DiscoveryResponse, DiscoveryRequest
	fieldResources     protowire.Number = 2 // DiscoveryResponse
	fieldNonceOut      protowire.Number = 5
	fieldValue         protowire.Number = 2 // Any
	fieldTypeURL       protowire.Number = 4 // DiscoveryRequest
	fieldResponseNonce protowire.Number = 5
)

// offer is what an instance needs of a StreamResponse. Its slices lie in the message.
type offer struct {
	kind    protowire.Number // which message it is: its field
	body    []byte
	nonce   uint64
	token   []byte // marshalled; nil: none
	hash    []byte // of the token
	content []byte
}

func readOffer(b []byte) (o offer, err error) {
	if err := walk(b, func(n protowire.Number, _ uint64, data []byte) { o.kind, o.body = n, data }); err != nil {
		return o, err
	}
	if o.kind != offerSnapshot && o.kind != offerCurrent && o.kind != offerAbsent {
		return o, nil
	}
	err = walk(o.body, func(n protowire.Number, v uint64, data []byte) {
		switch {
		case n == fieldNonce:
			o.nonce = v
		case n == fieldToken && o.kind != offerAbsent:
			o.token = data
		case n == fieldContent && o.kind == offerSnapshot:
			o.content = data
		}
	})
	if err != nil {
		return o, err
	}
	return o, walk(o.token, func(n protowire.Number, _ uint64, data []byte) {
		if n == fieldHash {
			o.hash = data
		}
	})
}

// appendApplied appends a StreamRequest with the report that a token was applied; nil: that nothing runs.
func appendApplied(b []byte, nonce uint64, token []byte) []byte {
	var room [256]byte
	r := room[:0]
	if nonce != 0 {
		r = protowire.AppendTag(r, fieldNonce, protowire.VarintType)
		r = protowire.AppendVarint(r, nonce)
	}
	r = protowire.AppendTag(r, fieldPhase, protowire.VarintType)
	r = protowire.AppendVarint(r, uint64(pushv1.Phase_PHASE_APPLIED))
	if token != nil {
		r = protowire.AppendTag(r, fieldDesired, protowire.BytesType)
		r = protowire.AppendBytes(r, token)
		r = protowire.AppendTag(r, fieldRunning, protowire.BytesType)
		r = protowire.AppendBytes(r, token)
	}
	b = protowire.AppendTag(b, fieldReport, protowire.BytesType)
	return protowire.AppendBytes(b, r)
}

// response is what an instance needs of a DiscoveryResponse. Its slices lie in the message.
type response struct {
	version, nonce []byte
	bytes          int // of the resources
}

func readResponse(b []byte) (r response, err error) {
	var inner error
	err = walk(b, func(n protowire.Number, _ uint64, data []byte) {
		if n == fieldVersion {
			r.version = data
		}
		if n == fieldNonceOut {
			r.nonce = data
		}
		if n != fieldResources {
			return
		}
		if err := walk(data, func(n protowire.Number, _ uint64, data []byte) {
			if n == fieldValue {
				r.bytes += len(data)
			}
		}); err != nil {
			inner = err
		}
	})
	if err == nil {
		err = inner
	}
	return r, err
}

// appendACK appends the DiscoveryRequest that acknowledges a response.
func appendACK(b, version, nonce []byte) []byte {
	b = protowire.AppendTag(b, fieldVersion, protowire.BytesType)
	b = protowire.AppendBytes(b, version)
	b = protowire.AppendTag(b, fieldTypeURL, protowire.BytesType)
	b = protowire.AppendString(b, xdsType)
	b = protowire.AppendTag(b, fieldResponseNonce, protowire.BytesType)
	return protowire.AppendBytes(b, nonce)
}

// walk calls f for each field of a message that is a number or bytes, in the order that they come.
func walk(b []byte, f func(n protowire.Number, v uint64, data []byte)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				f(num, v, nil)
			}
		case protowire.BytesType:
			var data []byte
			if data, n = protowire.ConsumeBytes(b); n >= 0 {
				f(num, 0, data)
			}
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
	}
	return nil
}
