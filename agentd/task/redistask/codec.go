package redistask

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// held is a record with how it lies in the server: its artifacts are those of the hash and the pieces that follow, so that a piece doesn't
// write again what came before.
type held struct {
	rec    task.Record
	call   string // the name of the call that wrote it
	whole  int    // bytes of the artifacts in the hash
	pieces int    // bytes of the pieces
}

// minPieces is how many bytes of pieces are always borne; beyond, they may be as many as what they follow.
const minPieces = 64 << 10

// marshal writes JSON without making anything harmless for HTML.
func marshal(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", errs.New(errs.Internal, "write a task: %w", err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// decode reads what read.lua gives of one task.
func decode(answer any) (held, error) {
	var h held
	fields, ok := answer.([]any)
	if !ok || len(fields) < 7 {
		return h, errs.New(errs.Internal, "a stored task is no list of 7")
	}
	pieces, ok := fields[6].([]any)
	if !ok {
		return h, errs.New(errs.Internal, "a stored task has no list of pieces")
	}
	if err := h.read(fields, pieces); err != nil {
		return h, errs.New(errs.Internal, "a stored task: %w", err)
	}
	return h, nil
}

func (h *held) read(fields, pieces []any) (err error) {
	text := func(i int) string {
		s, _ := fields[i].(string)
		return s
	}
	if err := json.Unmarshal([]byte(text(3)), &h.rec); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(text(4)), &h.rec.Task.History); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	if err := json.Unmarshal([]byte(text(5)), &h.rec.Task.Artifacts); err != nil {
		return fmt.Errorf("artifacts: %w", err)
	}
	h.whole = len(text(5))
	h.call, _, _ = strings.Cut(text(2), " ")
	if h.rec.Version, err = strconv.ParseInt(text(0), 10, 64); err != nil {
		return fmt.Errorf("version: %w", err)
	}
	if h.rec.Seq, err = strconv.ParseInt(text(1), 10, 64); err != nil {
		return fmt.Errorf("seq: %w", err)
	}
	chunks, err := h.chunks(pieces)
	if err != nil {
		return err
	}
	status := h.rec.Task.Status
	h.rec.Task.Status = task.Status{State: task.Working}
	for i := range chunks {
		// they had their room when they were written
		if h.rec.Task, err = task.Apply(h.rec.Task, task.Event{Chunk: &chunks[i]}, task.Bounds{Bytes: math.MaxInt}); err != nil {
			return fmt.Errorf("a piece: %w", err)
		}
	}
	h.rec.Task.Status = status
	return nil
}

// chunks reads pieces. Text that goes on in the same part is put together first: else a long text would be copied for each of its pieces.
func (h *held) chunks(pieces []any) ([]task.Chunk, error) {
	var out []task.Chunk
	var more []byte // of the last part of the last one
	join := func() {
		if len(more) > 0 {
			parts := out[len(out)-1].Artifact.Parts
			parts[len(parts)-1].Text += string(more)
			more = more[:0]
		}
	}
	for _, p := range pieces {
		s, _ := p.(string)
		h.pieces += len(s)
		var c task.Chunk
		if err := json.Unmarshal([]byte(s), &c); err != nil {
			return nil, fmt.Errorf("a piece: %w", err)
		}
		if n := len(out); n > 0 && goesOn(out[n-1], c) {
			more = append(more, c.Artifact.Parts[0].Text...)
			continue
		}
		join()
		out = append(out, c)
	}
	join()
	return out, nil
}

// goesOn reports whether next adds nothing but text to the last part of c.
func goesOn(c, next task.Chunk) bool {
	n := len(c.Artifact.Parts)
	return next.Append && next.Merge && c.Artifact.ID == next.Artifact.ID && n > 0 && c.Artifact.Parts[n-1].Kind == task.Text &&
		len(next.Artifact.Parts) == 1 && next.Artifact.Parts[0].Kind == task.Text
}
