package redistask

import (
	_ "embed"
	"encoding/json"
	"strconv"
	"time"

	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/agentd/task"
)

// scripts are what the store runs in the server. lib.lua, which stands before each, says what is kept under which key.
type scripts struct{ create, update, read, list, begin, beat, kept, goodbye *redis.Script }

var (
	//go:embed lib.lua
	libSource string
	//go:embed create.lua
	createSource string
	//go:embed update.lua
	updateSource string
	//go:embed read.lua
	readSource string
	//go:embed list.lua
	listSource string
	//go:embed begin.lua
	beginSource string
	//go:embed beat.lua
	beatSource string
	//go:embed kept.lua
	keptSource string
	//go:embed goodbye.lua
	goodbyeSource string
)

func newScripts() scripts {
	with := func(source string) *redis.Script { return redis.NewScript(libSource + source) }
	return scripts{
		create: with(createSource), update: with(updateSource), read: with(readSource), list: with(listSource), begin: with(beginSource),
		beat: with(beatSource), kept: with(keptSource), goodbye: with(goodbyeSource),
	}
}

// nameOf is what keys say of a task; they tell nobody whose it is.
func nameOf(ref task.Ref) string { return redis.Digest(ownerOf(ref.Owner), ref.ID) }

func ownerOf(o task.Owner) string {
	return redis.Digest(o.Namespace, o.Agent, o.Principal, o.Tenant)
}

// indexOf is the list that holds what a filter chooses, but for its time.
func indexOf(f task.Filter) string {
	index := "o:" + ownerOf(f.Owner)
	if f.Context != "" {
		index += ":c:" + redis.Digest(f.Context)
	}
	if f.State != "" {
		index += ":s:" + string(f.State)
	}
	return index
}

// score sorts lists: the newest first.
func score(at time.Time) string { return strconv.FormatInt(-at.UnixMilli(), 10) }

// since is the score of the oldest status that is not before a time.
func since(t time.Time) string {
	ms := t.UnixMilli()
	if time.UnixMilli(ms).Before(t) {
		ms++
	}
	return strconv.FormatInt(-ms, 10)
}

// place is what the indexes keep of a record: the scripts' arguments 2 to 9.
func place(r task.Record) []any {
	return []any{
		nameOf(r.Ref()), r.Task.ID, ownerOf(r.Owner), redis.Digest(r.Task.ContextID), string(r.Task.Status.State), r.Keeper, r.Task.Size(),
		score(r.Task.Status.At),
	}
}

// note is how a keeper is told of a task.
func note(ref task.Ref) (string, error) { return marshal(ref) }

func readNote(s string) (ref task.Ref, err error) {
	err = json.Unmarshal([]byte(s), &ref)
	return ref, err
}
