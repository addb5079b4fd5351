package redismemory

import (
	_ "embed"

	"github.com/agentry/agentry/agentd/redis"
)

// The scripts' arguments are named in their first lines.
var (
	//go:embed load.lua
	loadSource string
	//go:embed append.lua
	appendSource string
	//go:embed summarise.lua
	summariseSource string
	//go:embed forget.lua
	forgetSource string
	//go:embed vectors.lua
	vectorsSource string
	//go:embed keepvectors.lua
	keepVectorsSource string
	//go:embed enter.lua
	enterSource string
	//go:embed renew.lua
	renewSource string
	//go:embed leave.lua
	leaveSource string
)

type scripts struct {
	load, add, summarise, forget, vectors, keepVectors, enter, renew, leave *redis.Script
}

func newScripts() scripts {
	return scripts{
		load: redis.NewScript(loadSource), add: redis.NewScript(appendSource), summarise: redis.NewScript(summariseSource),
		forget: redis.NewScript(forgetSource), vectors: redis.NewScript(vectorsSource), keepVectors: redis.NewScript(keepVectorsSource),
		enter: redis.NewScript(enterSource), renew: redis.NewScript(renewSource), leave: redis.NewScript(leaveSource),
	}
}
