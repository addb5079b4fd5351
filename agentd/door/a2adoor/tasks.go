package a2adoor

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
)

// The bounds of a page.
const (
	defaultPage = 50
	maxPage     = 100
)

// getTask is GetTask.
func (d *Door) getTask(ctx context.Context, c call, req *pb.GetTaskRequest) (*pb.Task, error) {
	if err := checkID("id", req.GetId()); err != nil {
		return nil, err
	}
	if err := checkHistory("historyLength", req.HistoryLength); err != nil {
		return nil, err
	}
	_, rec, err := d.find(ctx, c, req.GetId())
	if err != nil {
		return nil, err
	}
	return wireTask(rec.Task, view{history: req.HistoryLength, artifacts: true}), nil
}

// listTasks is ListTasks. It shows where the config keeps tasks, and not what a config before left in the process.
func (d *Door) listTasks(ctx context.Context, c call, req *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	f := task.Filter{Owner: c.owner, Context: req.GetContextId(), Limit: defaultPage}
	if req.PageSize != nil {
		if f.Limit = int(req.GetPageSize()); f.Limit < 1 || f.Limit > maxPage {
			return nil, a2a.Bad("pageSize", fmt.Sprintf("want 1 to %d, not %d", maxPage, f.Limit))
		}
	}
	if err := checkHistory("historyLength", req.HistoryLength); err != nil {
		return nil, err
	}
	if req.GetStatus() != pb.TaskState_TASK_STATE_UNSPECIFIED {
		state, ok := plainState(req.GetStatus())
		if !ok {
			return nil, a2a.Bad("status", "there is no such state")
		}
		f.State = state
	}
	if t := req.GetStatusTimestampAfter(); t != nil {
		if t.CheckValid() != nil {
			return nil, a2a.Bad("statusTimestampAfter", "it is no time")
		}
		f.Since = t.AsTime()
	}
	if token := req.GetPageToken(); token != "" {
		cursor, ok := readCursor(token)
		if !ok {
			return nil, a2a.Bad("pageToken", "it is not one that this agent gave")
		}
		f.After = cursor
	}
	page, err := c.place.store.List(ctx, f)
	if err != nil {
		return nil, err
	}
	out := &pb.ListTasksResponse{Tasks: make([]*pb.Task, 0, len(page.Records)), PageSize: int32(f.Limit), TotalSize: int32(min(page.Total, 1<<30))} // #nosec G115 -- bounded above
	for _, r := range page.Records {
		out.Tasks = append(out.Tasks, wireTask(r.Task, view{history: req.HistoryLength, artifacts: req.GetIncludeArtifacts()}))
	}
	if page.More {
		out.NextPageToken = writeCursor(page.Next)
	}
	return out, nil
}

// A cursor is a time in milliseconds and an ID, behind their checksum: what was mistyped is not taken for another place.
func writeCursor(c task.Cursor) string {
	b := binary.AppendVarint(make([]byte, crc32.Size), c.At.UnixMilli())
	b = append(b, c.ID...)
	binary.BigEndian.PutUint32(b, crc32.ChecksumIEEE(b[crc32.Size:]))
	return base64.RawURLEncoding.EncodeToString(b)
}

func readCursor(s string) (task.Cursor, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < crc32.Size || binary.BigEndian.Uint32(b) != crc32.ChecksumIEEE(b[crc32.Size:]) {
		return task.Cursor{}, false
	}
	b = b[crc32.Size:]
	ms, n := binary.Varint(b)
	if n <= 0 || len(b) == n || len(b)-n > maxID {
		return task.Cursor{}, false
	}
	return task.Cursor{At: time.UnixMilli(ms).UTC(), ID: string(b[n:])}, true
}

// cancelTask is CancelTask. The task is canceled at once, its work as soon as it notices.
func (d *Door) cancelTask(ctx context.Context, c call, req *pb.CancelTaskRequest) (*pb.Task, error) {
	if err := checkID("id", req.GetId()); err != nil {
		return nil, err
	}
	ref := task.Ref{Owner: c.owner, ID: req.GetId()}
	waited, canceled := "", false
	var events []task.Event
	rec, err := d.change(ctx, c, ref.ID, func(r *task.Record) ([]task.Event, error) {
		switch state := r.Task.Status.State; {
		case state == task.Canceled:
			waited, canceled = "", true
			return nil, nil
		case state.Terminal():
			return nil, a2a.Fail(a2a.TaskNotCancelable, fmt.Sprintf("the task is %s already", wireState(state)), "taskId", ref.ID)
		}
		waited, r.Pending, r.Approval = r.Pending, "", false
		events = []task.Event{{Status: d.status(task.Canceled, nil)}}
		return events, nil
	})
	switch {
	case err != nil:
		return nil, err
	case !canceled:
		d.stop(ref, errCanceled)
		d.forget(ref)
		if waited != "" {
			d.abandon(c.owner.Principal, waited)
		}
		d.push.changed(rec, events)
	}
	return wireTask(rec.Task, whole()), nil
}

// stop ends the work on a task that is over, if it's done here. What is done on another instance that one ends.
func (d *Door) stop(ref task.Ref, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.running[ref]; x != nil {
		x.stop(why)
	}
}
