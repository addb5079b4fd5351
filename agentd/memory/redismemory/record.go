package redismemory

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/memory"
)

// An exchange is stored as three lines: its ID, the number of its turns, and the turns as JSON. The scripts read the first two.

type turnRecord struct {
	Role   string       `json:"role"`
	Text   string       `json:"text,omitempty"`
	Tools  []toolRecord `json:"tools,omitempty"`
	At     time.Time    `json:"at,omitzero"`
	Config string       `json:"config,omitempty"`
}

type toolRecord struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments,omitempty"`
	Result    string `json:"result,omitempty"`
	IsError   bool   `json:"isError,omitempty"`
}

func encode(id string, turns []memory.Turn) (string, error) {
	records := make([]turnRecord, len(turns))
	for i, t := range turns {
		records[i] = turnRecord{Role: t.Role, Text: t.Text, At: t.At, Config: t.Config}
		for _, u := range t.Tools {
			records[i].Tools = append(records[i].Tools, toolRecord(u))
		}
	}
	b, err := json.Marshal(records)
	if err != nil {
		return "", err
	}
	return id + "\n" + strconv.Itoa(len(turns)) + "\n" + string(b), nil
}

func decode(line string) ([]memory.Turn, error) {
	parts := strings.SplitN(line, "\n", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("a stored exchange has %d parts instead of 3", len(parts))
	}
	var records []turnRecord
	if err := json.Unmarshal([]byte(parts[2]), &records); err != nil {
		return nil, fmt.Errorf("a stored exchange: %w", err)
	}
	turns := make([]memory.Turn, len(records))
	for i, r := range records {
		turns[i] = memory.Turn{Role: r.Role, Text: r.Text, At: r.At, Config: r.Config}
		for _, u := range r.Tools {
			turns[i].Tools = append(turns[i].Tools, memory.ToolUse(u))
		}
	}
	return turns, nil
}
