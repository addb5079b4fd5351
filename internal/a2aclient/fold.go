package a2aclient

import (
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"
)

// folded is a task as its events made it.
type folded struct {
	task  *pb.Task
	size  int64
	limit int64
}

// apply takes an event in. An event of another task, and a task beyond the limit, are errors.
func (f *folded) apply(ev *pb.StreamResponse) error {
	if f.size += int64(proto.Size(ev)); ev.GetTask() != nil {
		f.size = int64(proto.Size(ev)) // it replaces what was there
	}
	if f.size > f.limit {
		return invalid("the task is larger than %d bytes", f.limit)
	}
	id, context := ids(ev)
	if id == "" {
		return invalid("an event names no task")
	}
	if f.task != nil && f.task.GetId() != id {
		return invalid("an event is of another task than its stream")
	}
	if ev.GetTask() != nil {
		f.task = proto.CloneOf(ev.GetTask())
		return nil
	}
	if f.task == nil {
		f.task = &pb.Task{Id: id, ContextId: context}
	}
	if u := ev.GetStatusUpdate(); u != nil {
		f.task.Status = proto.CloneOf(u.GetStatus())
		return nil
	}
	f.artifact(ev.GetArtifactUpdate())
	return nil
}

func ids(ev *pb.StreamResponse) (task, context string) {
	switch {
	case ev.GetTask() != nil:
		return ev.GetTask().GetId(), ev.GetTask().GetContextId()
	case ev.GetStatusUpdate() != nil:
		return ev.GetStatusUpdate().GetTaskId(), ev.GetStatusUpdate().GetContextId()
	default:
		return ev.GetArtifactUpdate().GetTaskId(), ev.GetArtifactUpdate().GetContextId()
	}
}

// artifact puts an artifact in, or its next parts on.
func (f *folded) artifact(u *pb.TaskArtifactUpdateEvent) {
	if u.GetArtifact() == nil {
		return
	}
	next := proto.CloneOf(u.GetArtifact())
	for i, a := range f.task.GetArtifacts() {
		if a.GetArtifactId() != next.GetArtifactId() {
			continue
		}
		if u.GetAppend() {
			a.Parts = append(a.Parts, next.GetParts()...)
			return
		}
		f.task.Artifacts[i] = next
		return
	}
	f.task.Artifacts = append(f.task.Artifacts, next)
}
