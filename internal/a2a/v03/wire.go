package v03

import "encoding/json"

// The objects of the JSON-RPC form. Members that may be absent are left out where they are empty.
type (
	wireMessage struct {
		Kind             string          `json:"kind"`
		MessageID        string          `json:"messageId"`
		TaskID           string          `json:"taskId,omitempty"`
		ContextID        string          `json:"contextId,omitempty"`
		Role             string          `json:"role"`
		Parts            []wirePart      `json:"parts"`
		Metadata         json.RawMessage `json:"metadata,omitempty"`
		Extensions       []string        `json:"extensions,omitempty"`
		ReferenceTaskIDs []string        `json:"referenceTaskIds,omitempty"`
	}

	wirePart struct {
		Kind     string          `json:"kind"`
		Text     *string         `json:"text,omitempty"`
		File     *wireFile       `json:"file,omitempty"`
		Data     json.RawMessage `json:"data,omitempty"`
		Metadata json.RawMessage `json:"metadata,omitempty"`
	}

	wireFile struct {
		Bytes    *string `json:"bytes,omitempty"` // base64
		URI      *string `json:"uri,omitempty"`
		MIMEType string  `json:"mimeType,omitempty"`
		Name     string  `json:"name,omitempty"`
	}

	wireTask struct {
		Kind      string          `json:"kind"`
		ID        string          `json:"id"`
		ContextID string          `json:"contextId"`
		Status    wireStatus      `json:"status"`
		Artifacts []wireArtifact  `json:"artifacts,omitempty"`
		History   []wireMessage   `json:"history,omitempty"`
		Metadata  json.RawMessage `json:"metadata,omitempty"`
	}

	wireStatus struct {
		State     string       `json:"state"`
		Message   *wireMessage `json:"message,omitempty"`
		Timestamp string       `json:"timestamp,omitempty"`
	}

	wireArtifact struct {
		ArtifactID  string          `json:"artifactId"`
		Name        string          `json:"name,omitempty"`
		Description string          `json:"description,omitempty"`
		Parts       []wirePart      `json:"parts"`
		Metadata    json.RawMessage `json:"metadata,omitempty"`
		Extensions  []string        `json:"extensions,omitempty"`
	}

	wireStatusUpdate struct {
		Kind      string          `json:"kind"`
		TaskID    string          `json:"taskId"`
		ContextID string          `json:"contextId"`
		Status    wireStatus      `json:"status"`
		Final     bool            `json:"final"`
		Metadata  json.RawMessage `json:"metadata,omitempty"`
	}

	wireArtifactUpdate struct {
		Kind      string          `json:"kind"`
		TaskID    string          `json:"taskId"`
		ContextID string          `json:"contextId"`
		Artifact  wireArtifact    `json:"artifact"`
		Append    bool            `json:"append,omitempty"`
		LastChunk bool            `json:"lastChunk,omitempty"`
		Metadata  json.RawMessage `json:"metadata,omitempty"`
	}

	wireTaskPush struct {
		TaskID string    `json:"taskId"`
		Config *wirePush `json:"pushNotificationConfig"`
	}

	wirePush struct {
		ID             string        `json:"id,omitempty"`
		URL            string        `json:"url"`
		Token          string        `json:"token,omitempty"`
		Authentication *wirePushAuth `json:"authentication,omitempty"`
	}

	wirePushAuth struct {
		Schemes     []string `json:"schemes"`
		Credentials string   `json:"credentials,omitempty"`
	}

	wireSend struct {
		Message       *wireMessage       `json:"message"`
		Configuration *wireConfiguration `json:"configuration"`
		Metadata      json.RawMessage    `json:"metadata"`
	}

	wireConfiguration struct {
		AcceptedOutputModes []string  `json:"acceptedOutputModes"`
		HistoryLength       *int32    `json:"historyLength"`
		Push                *wirePush `json:"pushNotificationConfig"`
		Blocking            *bool     `json:"blocking"`
	}

	// wireAsk has the parameters of the methods that name a task.
	wireAsk struct {
		ID            string `json:"id"`
		HistoryLength *int32 `json:"historyLength"`
		ConfigID      string `json:"pushNotificationConfigId"`
	}
)

// The kinds of objects, and of parts.
const (
	kindMessage        = "message"
	kindTask           = "task"
	kindStatusUpdate   = "status-update"
	kindArtifactUpdate = "artifact-update"

	kindText = "text"
	kindFile = "file"
	kindData = "data"
)
