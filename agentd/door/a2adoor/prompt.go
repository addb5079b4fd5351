package a2adoor

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/task"
)

// prompt gives a message as the model gets it: text and data one under the other, pictures beside.
func prompt(m task.Message) engine.Message {
	out := engine.Message{Role: engine.User}
	var lines []string
	for _, p := range m.Parts {
		media := mediaOf(p)
		picture := strings.HasPrefix(media, "image/")
		switch {
		case p.Kind == task.Text:
			lines = append(lines, p.Text)
		case p.Kind == task.Data:
			lines = append(lines, string(p.Data))
		case p.Kind == task.URL && picture:
			out.Images = append(out.Images, engine.Image{URL: p.URL})
		case p.Kind == task.URL:
			lines = append(lines, strings.TrimSpace("file "+p.Filename)+": "+p.URL)
		case picture:
			out.Images = append(out.Images, engine.Image{URL: "data:" + media + ";base64," + base64.StdEncoding.EncodeToString(p.Raw)})
		default:
			if p.Filename != "" {
				lines = append(lines, "file "+p.Filename+":")
			}
			lines = append(lines, strings.ToValidUTF8(string(p.Raw), "�"))
		}
	}
	out.Text = strings.Join(lines, "\n")
	return out
}

// maxReference bounds what of a task that a message refers to reaches the model, in bytes.
const maxReference = 4 << 10

// reference tells the model of an earlier task.
func reference(t task.Task) engine.Message {
	var b strings.Builder
	fmt.Fprintf(&b, "The caller refers to task %s (%s).", t.ID, t.Status.State)
	for _, a := range t.Artifacts {
		for _, p := range a.Parts {
			text := p.Text
			if p.Kind == task.Data {
				text = string(p.Data)
			}
			if text != "" && b.Len()+len(text) < maxReference {
				fmt.Fprintf(&b, "\nIts artifact %s: %s", a.ID, text)
			}
		}
	}
	return engine.Message{Role: engine.System, Text: b.String()}
}

// parts gives what a tool attached.
func parts(in []engine.Part) []task.Part {
	out := make([]task.Part, len(in))
	for i, p := range in {
		out[i] = task.Part{MediaType: p.MediaType, Filename: p.Filename}
		switch {
		case p.Data != nil:
			out[i].Kind, out[i].Data = task.Data, p.Data
		case p.Bytes != nil:
			out[i].Kind, out[i].Raw = task.Raw, p.Bytes
		case p.URL != "":
			out[i].Kind, out[i].URL = task.URL, p.URL
		default:
			out[i].Kind, out[i].Text = task.Text, p.Text
		}
	}
	return out
}

// text gives a text as parts.
func text(s string) []task.Part { return []task.Part{{Kind: task.Text, Text: s}} }

// answerID names the artifact of a turn's answer.
func answerID(turn int) string { return fmt.Sprintf("answer-%d", turn) }
