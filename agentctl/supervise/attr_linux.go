package supervise

import "syscall"

// childAttr gives a child its own process group, so that Ctrl-C reaches it through the supervisor only, and ends it should the
// supervisor die without a chance to.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
