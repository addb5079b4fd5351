package redis

import (
	"strings"
	"testing"
)

// An address is taken or refused in a form that tells no password, and what is taken can be dialled.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1:6379", "redis://h:1/3", "rediss://[::1]", "a@b", "redis://:pw@h", "h:99999", "%zz", "redis://h/../1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		e, err := parse(address)
		switch {
		case err == nil && (e.host == "" || e.address == "" || e.db < 0 || strings.Contains(address, "@")):
			t.Errorf("%q is taken as %+v", address, e)
		case err != nil && len(address) > 12 && strings.Contains(err.Error(), address):
			t.Errorf("the error repeats %q: %v", address, err)
		}
	})
}

// Whatever a credential is, it is some user and password, and an empty one is none.
func FuzzAccount(f *testing.F) {
	for _, s := range []string{"", "pw", `{"username":"u","password":"p"}`, `{'username':'u','password':'p'}`, `"{\"password\":\"p\"}"`, "{", `{"x":1}`, `"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		username, password := account(text)
		if username == "" && password == "" && strings.Trim(text, "\" \t\r\n") != "" && !strings.HasPrefix(strings.TrimSpace(text), `"`) {
			t.Errorf("%q is taken as nothing", text)
		}
	})
}
