package a2adoor

import (
	"encoding/json"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/a2a/v03"
)

// places says where 0.3 is spoken: where 1.0 is.
func places(base string) v03.Places {
	return v03.Places{JSONRPC: base + "/a2a", HTTP: base + "/a2a", GRPC: hostPort(base)}
}

// bothCards gives the JSON of a card for clients of either version. It has the signatures over the members of 1.0, which is what a verifier sees who
// reads the card into 1.0's types, and one over everything, for who takes it as it came.
func (d *Door) bothCards(face run.Face, card *pb.AgentCard, base string) (json.RawMessage, error) {
	card.Signatures = nil
	both, err := v03.WriteCard(card, places(base))
	if err != nil {
		return nil, err
	}
	signer := d.signer(face, base)
	if signer == nil {
		return both, nil
	}
	today, err := a2a.Marshal(card)
	if err != nil {
		return nil, err
	}
	signatures, err := signer.SignForAll(today, base+a2a.KeysPath)
	if err != nil {
		return nil, err
	}
	whole, err := signer.Sign(both, base+a2a.KeysPath)
	if err != nil {
		return nil, err
	}
	signatures = append(signatures, whole)
	var members map[string]json.RawMessage
	if err := json.Unmarshal(both, &members); err != nil {
		return nil, err
	}
	if members["signatures"], err = json.Marshal(signatures); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}
