// Package version says which release this is. All three programs print it and nothing else about themselves, so that a
// person can compare them. It asks nobody and decides nothing.
package version

import "runtime/debug"

// Release is this release's version.
const Release = "0.1.0"

// String names this build: the release, with the first 12 digits of the commit where the build knows it.
func String() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Release
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return Release + "+" + s.Value[:12]
		}
	}
	return Release
}
