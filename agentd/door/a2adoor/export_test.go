package a2adoor

import "time"

// Impatient lets a door give up soon where the store of tasks is gone.
func (c *Config) Impatient() {
	c.patience = patience{try: 200 * time.Millisecond, end: 400 * time.Millisecond, loose: time.Second, sweep: 3}
}
