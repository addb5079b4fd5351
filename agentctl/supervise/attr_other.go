//go:build !linux

package supervise

import "syscall"

// childAttr gives a child its own process group, so that Ctrl-C reaches it through the supervisor only.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
