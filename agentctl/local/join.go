package local

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/gen/agentry/identity/v1/identityv1connect"
	"github.com/agentry/agentry/internal/secret"
)

// join makes a join token for each instance and puts it into its environment. Only the first start spends it: an instance whose
// identity is in its state directory goes by that, and comes back by the token should the control plane not take the identity any more.
// What is not spent runs out by itself.
func (s *stack) join(ctx context.Context) error {
	token, err := s.token()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	client := identityv1connect.NewIdentityServiceClient(plain, "http://"+s.plan.people)
	for i := range s.plan.instances {
		in := &s.plan.instances[i]
		req := connect.NewRequest(&identityv1.CreateJoinTokenRequest{Namespace: in.agent.Namespace, Agent: in.agent.Name, Message: "agentctl up"})
		req.Header().Set("Authorization", "Bearer "+token.Reveal())
		resp, err := client.CreateJoinToken(ctx, req)
		if err != nil {
			return fmt.Errorf("join token for %s: %w", in.process.Name, err)
		}
		in.process.Env = append(in.process.Env, "AGENTD_JOIN_TOKEN="+resp.Msg.GetSecret())
	}
	return nil
}

func (s *stack) tokenFile() string { return filepath.Join(s.cfg.DataDir, "token") }

// token is the dev token, an admin's on the people door.
func (s *stack) token() (secret.Value, error) {
	b, err := os.ReadFile(s.tokenFile())
	if err != nil {
		return secret.Value{}, fmt.Errorf("dev token: %w", err)
	}
	return secret.NewValue(strings.TrimSpace(string(b))), nil
}
