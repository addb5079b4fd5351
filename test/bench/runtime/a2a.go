package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// The bindings of the A2A door.
const (
	byJSONRPC = "JSON-RPC"
	byHTTP    = "HTTP+JSON"
	byGRPC    = "gRPC"
)

// a2aJob sends a message that makes a task, and waits for its end, by one of the bindings. The job is to be closed.
func a2aJob(url, binding, text string) (job, error) {
	req := &pb.SendMessageRequest{Message: &pb.Message{MessageId: "m1", Role: pb.Role_ROLE_USER, Parts: []*pb.Part{{Content: &pb.Part_Text{Text: text}}}}}
	if binding == byGRPC {
		return grpcJob(url, req)
	}
	body, err := protojson.Marshal(req)
	if err != nil {
		return job{}, err
	}
	if binding == byJSONRPC {
		url, body = url+"/a2a", fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":%s}`, body)
	} else {
		url += "/a2a/v1/message:send"
	}
	return job{call: func(ctx context.Context, client *http.Client) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("A2A-Version", "1.0")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || !bytes.Contains(b, []byte(`"TASK_STATE_COMPLETED"`)) || !bytes.Contains(b, []byte(answer)) {
			return fmt.Errorf("%w: %d %s", errNoAnswer, resp.StatusCode, b)
		}
		return nil
	}}, nil
}

func grpcJob(url string, req *pb.SendMessageRequest) (job, error) {
	conn, err := grpc.NewClient(strings.TrimPrefix(url, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return job{}, err
	}
	svc := pb.NewA2AServiceClient(conn)
	return job{
		call: func(ctx context.Context, _ *http.Client) error {
			out, err := svc.SendMessage(metadata.AppendToOutgoingContext(ctx, "a2a-version", "1.0"), proto.CloneOf(req))
			if err != nil {
				return err
			}
			if out.GetTask().GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED || out.GetTask().GetArtifacts()[0].GetParts()[0].GetText() != answer {
				return fmt.Errorf("%w: %v", errNoAnswer, out)
			}
			return nil
		},
		close: func() { _ = conn.Close() },
	}, nil
}
