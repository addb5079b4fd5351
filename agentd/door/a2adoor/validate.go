package a2adoor

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
)

// The bounds of what a caller names.
const (
	maxID         = 256 // bytes
	maxParts      = 256
	maxReferences = 16
)

// inputModes are the media types that the agent takes, and outputModes those that it gives; cards say so.
func inputModes() []string {
	return []string{"text/plain", "text/markdown", "text/csv", "text/html", "application/json", "image/png", "image/jpeg", "image/gif", "image/webp"}
}

func outputModes() []string { return []string{"text/plain", "application/json"} }

// message reads a caller's message. The error names what is wrong in it.
func message(m *pb.Message) (task.Message, error) {
	if m == nil {
		return task.Message{}, a2a.Bad("message", "is required")
	}
	for _, id := range []struct {
		path, value string
		required    bool
	}{{"message.messageId", m.GetMessageId(), true}, {"message.taskId", m.GetTaskId(), false}, {"message.contextId", m.GetContextId(), false}} {
		if id.value == "" && !id.required {
			continue
		}
		if err := checkID(id.path, id.value); err != nil {
			return task.Message{}, err
		}
	}
	switch {
	case m.GetRole() != pb.Role_ROLE_USER:
		return task.Message{}, a2a.Bad("message.role", "want ROLE_USER")
	case len(m.GetParts()) == 0:
		return task.Message{}, a2a.Bad("message.parts", "at least one part is required")
	case len(m.GetParts()) > maxParts:
		return task.Message{}, a2a.Bad("message.parts", fmt.Sprintf("at most %d parts", maxParts))
	case len(m.GetReferenceTaskIds()) > maxReferences:
		return task.Message{}, a2a.Bad("message.referenceTaskIds", fmt.Sprintf("at most %d", maxReferences))
	}
	out := task.Message{ID: m.GetMessageId(), Role: task.User, Metadata: plainStruct(m.GetMetadata()), Extensions: m.GetExtensions(), ReferenceTaskIDs: m.GetReferenceTaskIds()}
	for i, p := range m.GetParts() {
		path := fmt.Sprintf("message.parts[%d]", i)
		part, ok := plainPart(p)
		if !ok {
			return task.Message{}, a2a.Bad(path, "one of text, raw, url and data is required")
		}
		if err := checkPart(path, part); err != nil {
			return task.Message{}, err
		}
		out.Parts = append(out.Parts, part)
	}
	return out, nil
}

// checkID refuses names that are none.
func checkID(path, id string) error {
	switch {
	case id == "":
		return a2a.Bad(path, "is required")
	case len(id) > maxID:
		return a2a.Bad(path, fmt.Sprintf("at most %d bytes", maxID))
	case !utf8.ValidString(id) || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return a2a.Bad(path, "control characters are not allowed")
	}
	return nil
}

// checkPart refuses media types that the card doesn't name, and addresses that are none.
func checkPart(path string, p task.Part) error {
	if p.Kind == task.URL {
		if u, err := url.Parse(p.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return a2a.Bad(path+".url", "want an absolute http or https URL")
		}
	}
	if media := mediaOf(p); media != "" && !slices.Contains(inputModes(), media) {
		return a2a.Fail(a2a.ContentTypeNotSupported, fmt.Sprintf("%s: the agent does not take the media type %q", path, media), "part", path, "mediaType", media)
	}
	return nil
}

// mediaOf gives a part's media type without parameters; "" where nothing says it.
func mediaOf(p task.Part) string {
	declared := p.MediaType
	if declared == "" {
		switch p.Kind {
		case task.Text:
			return "text/plain"
		case task.Data:
			return "application/json"
		case task.Raw:
			declared = http.DetectContentType(p.Raw)
		case task.URL:
			return ""
		}
	}
	media, _, err := mime.ParseMediaType(declared)
	if err != nil {
		return strings.ToLower(strings.TrimSpace(declared))
	}
	return media
}

// checkHistory refuses a negative length.
func checkHistory(path string, n *int32) error {
	if n != nil && *n < 0 {
		return a2a.Bad(path, "must not be negative")
	}
	return nil
}
