package openaidoor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/agentry/agentry/agentd/engine"
)

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a string, an array of parts, or null.
type content struct {
	text   string
	images []engine.Image
	given  bool   // it is there, and not null
	other  string // the type of a part that is neither text nor an image
	fault  string // what is wrong with an image
}

// part is one part of a content. ImageURL is an object, or in some clients the address alone.
type part struct {
	Type     string          `json:"type"`
	Text     string          `json:"text"`
	Refusal  string          `json:"refusal"` // of an assistant's
	ImageURL json.RawMessage `json:"image_url"`
}

// UnmarshalJSON reads all three.
func (c *content) UnmarshalJSON(b []byte) error {
	switch {
	case string(b) == "null":
		return nil
	case len(b) > 0 && b[0] == '"':
		c.given = true
		return json.Unmarshal(b, &c.text)
	}
	var parts []part
	if err := json.Unmarshal(b, &parts); err != nil {
		return errors.New("want a string or an array of parts")
	}
	var text strings.Builder
	for _, p := range parts {
		switch p.Type {
		case "text", "input_text", "output_text", "":
			text.WriteString(p.Text)
		case "refusal":
			text.WriteString(p.Refusal)
		case "image_url":
			image, err := picture(p.ImageURL)
			if err != nil && c.fault == "" {
				c.fault = err.Error()
			}
			c.images = append(c.images, image)
		default:
			c.other = p.Type
		}
	}
	c.text, c.given = text.String(), len(parts) > 0
	return nil
}

// picture reads an image. agentd never fetches it: the model's endpoint does, or finds it in the address.
func picture(raw json.RawMessage) (engine.Image, error) {
	var image engine.Image
	if json.Unmarshal(raw, &image.URL) != nil {
		var object struct {
			URL    string `json:"url"`
			Detail string `json:"detail"`
		}
		if err := json.Unmarshal(raw, &object); err != nil {
			return image, errors.New(`image_url: want {"url": ...}`)
		}
		image = engine.Image{URL: object.URL, Detail: object.Detail}
	}
	switch image.Detail {
	case "", "auto", "low", "high":
	default:
		return image, fmt.Errorf("image_url.detail: %q (auto, low or high)", image.Detail)
	}
	scheme, rest, _ := strings.Cut(image.URL, ":")
	switch strings.ToLower(scheme) {
	case "data":
		kind, data, ok := strings.Cut(rest, ",")
		if !ok || data == "" || !strings.HasPrefix(strings.ToLower(kind), "image/") {
			return image, errors.New("image_url.url: a data: address must be data:image/TYPE;base64,DATA")
		}
		return image, nil
	case "http", "https":
		if u, err := url.Parse(image.URL); err == nil && u.Host != "" {
			return image, nil
		}
	}
	return image, errors.New("image_url.url: want an http, https or data: address")
}

// read gives message number i as the engine takes it.
func (m message) read(i int) (engine.Message, *inputError) {
	at := func(field string) string { return fmt.Sprintf("messages[%d].%s", i, field) }
	role := engine.Role(m.Role)
	switch m.Role {
	case "user", "assistant", "system":
	case "developer":
		role = engine.System
	case "tool", "function":
		return engine.Message{}, bad(at("role"), "%s: %s messages are not accepted: the agent calls its own tools", at("role"), m.Role)
	default:
		return engine.Message{}, bad(at("role"), "%s: %q (system, developer, user or assistant)", at("role"), m.Role)
	}
	c := m.Content
	switch {
	case c.other != "":
		return engine.Message{}, bad(at("content"), "%s: a part of type %q is not accepted (text, image_url)", at("content"), c.other)
	case c.fault != "":
		return engine.Message{}, bad(at("content"), "%s: %s", at("content"), c.fault)
	case len(c.images) > 0 && role != engine.User:
		return engine.Message{}, bad(at("content"), "%s: images are accepted in user messages only", at("content"))
	case role != engine.Assistant && (!c.given || role == engine.User && c.text == "" && len(c.images) == 0):
		return engine.Message{}, bad(at("content"), "%s: is missing (a text, or parts)", at("content"))
	}
	return engine.Message{Role: role, Text: c.text, Images: c.images}, nil // an assistant's empty one still marks what was answered
}
