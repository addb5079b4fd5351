package redistask

import (
	"log/slog"
	"time"

	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// The defaults of a Config.
const (
	DefaultTTL      = time.Hour
	DefaultOpenTTL  = 7 * 24 * time.Hour
	DefaultMaxTasks = 20_000
	DefaultMaxBytes = 512 << 20
	DefaultMaxLag   = 2_000
)

// Config is what a Store is made of. Client is required and stays the caller's; it outlives the Store. Zero fields have their defaults.
type Config struct {
	Client   *redis.Client
	TTL      time.Duration // how long a terminal task is held
	OpenTTL  time.Duration // how long one that isn't terminal is held after its last change
	MaxTasks int           // of the agent at a time; the terminal tasks that ended first make room
	MaxBytes int           // of all tasks of the agent together, about; the same ones make room
	MaxLag   int           // events that a reader may be behind before its feed ends
	Bounds   task.Bounds   // of one task
	Log      *slog.Logger  // nil: none
}

func (c Config) withDefaults() (Config, error) {
	if c.Client == nil {
		return c, errs.New(errs.Invalid, "redistask: no client")
	}
	if c.TTL < 0 || c.OpenTTL < 0 || c.MaxTasks < 0 || c.MaxBytes < 0 || c.MaxLag < 0 {
		return c, errs.New(errs.Invalid, "redistask: a bound is negative")
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.OpenTTL == 0 {
		c.OpenTTL = DefaultOpenTTL
	}
	if c.MaxTasks == 0 {
		c.MaxTasks = DefaultMaxTasks
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.MaxLag == 0 {
		c.MaxLag = DefaultMaxLag
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Bounds = c.Bounds.WithDefaults()
	return c, nil
}
