package task

import (
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/errs"
)

// Event is one change of a task. Exactly one of Status, Chunk and Message is set.
type Event struct {
	// Seq counts a task's events from 1, without gaps. The store sets it.
	Seq     int64    `json:"seq"`
	Status  *Status  `json:"status,omitempty"`
	Chunk   *Chunk   `json:"chunk,omitempty"`
	Message *Message `json:"message,omitempty"` // a message of the caller; those who watch aren't told of it
}

// Chunk is an artifact, or a piece of one.
type Chunk struct {
	Artifact Artifact `json:"artifact"`
	Append   bool     `json:"append,omitempty"` // to the artifact that has the ID
	Last     bool     `json:"last,omitempty"`   // no more of it follows
	// Merge lets text follow the text before it in the same part: it's a piece of a stream, no part of its own.
	Merge bool `json:"merge,omitempty"`
}

// Bounds are how large one task becomes.
type Bounds struct {
	Bytes    int // about; default DefaultBytes
	Messages int // of the history: older ones are dropped; default DefaultMessages
}

// The defaults of Bounds.
const (
	DefaultBytes    = 8 << 20
	DefaultMessages = 200
)

// WithDefaults fills in what is zero.
func (b Bounds) WithDefaults() Bounds {
	if b.Bytes <= 0 {
		b.Bytes = DefaultBytes
	}
	if b.Messages <= 0 {
		b.Messages = DefaultMessages
	}
	return b
}

// Apply gives the task after an event; t stays as it was and shares what did not change. Errors: errs.Precondition for anything that follows a
// terminal state, errs.Invalid for an event that is none, errs.Exhausted where the task would outgrow the bounds (a status never does).
// A status with a message moves the message of the one before it to the history.
func Apply(t Task, e Event, b Bounds) (Task, error) {
	b = b.WithDefaults()
	if t.Status.State.Terminal() {
		return t, errs.New(errs.Precondition, "task %s: it is %s, nothing follows that", t.ID, t.Status.State)
	}
	switch {
	case e.Status != nil:
		if !known(e.Status.State) {
			return t, errs.New(errs.Invalid, "task %s: unknown state %q", t.ID, e.Status.State)
		}
		if m := t.Status.Message; m != nil {
			t.History = trim(append(slices.Clip(t.History), *m), b.Messages)
		}
		t.Status = *e.Status
		return t, nil
	case e.Message != nil:
		if t.Size()+e.Message.size() > b.Bytes {
			return t, errs.New(errs.Exhausted, "task %s: it would be larger than %d bytes", t.ID, b.Bytes)
		}
		if m := t.Status.Message; m != nil { // it was said before the caller's
			t.History = append(slices.Clip(t.History), *m)
			t.Status.Message = nil
		}
		t.History = trim(append(slices.Clip(t.History), *e.Message), b.Messages)
		return t, nil
	case e.Chunk != nil:
		return t, t.add(*e.Chunk, b)
	default:
		return t, errs.New(errs.Invalid, "task %s: an empty event", t.ID)
	}
}

func known(s State) bool {
	return s.Terminal() || s.Interrupted() || s == Submitted || s == Working
}

func trim(h []Message, most int) []Message {
	if len(h) > most {
		return h[len(h)-most:]
	}
	return h
}

// add puts a chunk into t, whose slices may be shared with other copies.
func (t *Task) add(c Chunk, b Bounds) error {
	if t.Size()+c.Artifact.size() > b.Bytes {
		return errs.New(errs.Exhausted, "task %s: its artifacts are larger than %d bytes", t.ID, b.Bytes)
	}
	i := slices.IndexFunc(t.Artifacts, func(a Artifact) bool { return a.ID == c.Artifact.ID })
	switch {
	case i < 0:
		t.Artifacts = append(slices.Clip(t.Artifacts), c.Artifact)
		return nil
	case !c.Append:
		t.Artifacts = slices.Clone(t.Artifacts)
		t.Artifacts[i] = c.Artifact
		return nil
	}
	t.Artifacts = slices.Clone(t.Artifacts)
	t.Artifacts[i].Parts = follow(t.Artifacts[i].Parts, c.Artifact.Parts, c.Merge)
	return nil
}

// follow gives have with more behind it.
func follow(have, more []Part, merge bool) []Part {
	out := append(slices.Clip(have), more...)
	if !merge || len(have) == 0 || len(more) == 0 {
		return out
	}
	last, next := have[len(have)-1], more[0]
	if last.Kind != Text || next.Kind != Text {
		return out
	}
	var text strings.Builder
	text.Grow(len(last.Text) + len(next.Text))
	text.WriteString(last.Text)
	text.WriteString(next.Text)
	last.Text = text.String()
	out = slices.Delete(out, len(have)-1, len(have))
	out[len(have)-1] = last
	return out
}

// Latest gives the newest n messages of a history; n < 0: all.
func Latest(h []Message, n int) []Message {
	if n < 0 || n >= len(h) {
		return h
	}
	return h[len(h)-n:]
}
