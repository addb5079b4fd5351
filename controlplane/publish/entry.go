package publish

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of pushv1.Content, as push.proto numbers them.
const (
	fieldManifest  protowire.Number = 1
	fieldResources protowire.Number = 2
)

// entry is a pushv1.ManifestLine, whose bytes are a SHA-256, or a pushv1.Resource, whose bytes are JSON: both number their fields alike.
type entry struct {
	kind, name, version string // 1 to 3
	bytes               []byte // 4
}

// entryMost bounds the bytes of tags and lengths around an entry.
const entryMost = 5 * (1 + 5)

// size is how many bytes it takes at most.
func (e entry) size() int {
	return len(e.kind) + len(e.name) + len(e.version) + len(e.bytes) + entryMost
}

// valid reports whether its texts are UTF-8, as protobuf demands.
func (e entry) valid() bool {
	return utf8.ValidString(e.kind) && utf8.ValidString(e.name) && utf8.ValidString(e.version)
}

// appendTo appends it as a field of Content.
func (e entry) appendTo(b []byte, field protowire.Number) []byte {
	size := 0
	for _, n := range [...]int{len(e.kind), len(e.name), len(e.version), len(e.bytes)} {
		if n > 0 {
			size += 1 + protowire.SizeBytes(n)
		}
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	for i, text := range [...]string{e.kind, e.name, e.version} {
		if text != "" {
			b = protowire.AppendTag(b, protowire.Number(i+1), protowire.BytesType)
			b = protowire.AppendString(b, text)
		}
	}
	if len(e.bytes) > 0 {
		b = protowire.AppendTag(b, 4, protowire.BytesType)
		b = protowire.AppendBytes(b, e.bytes)
	}
	return b
}
