package snapshot

// keeper is what Immutables that keep what was built implement beside it, so that a change is resolved once for all who ask.
type keeper interface {
	// Built gives what Keep was given for the key, if it is still kept.
	Built(k Key) (Snapshot, bool)
	Keep(k Key, s Snapshot)
}

// resolved is build, of what is kept where it is kept.
func resolved(h Heads, im Immutables, k Key) (Snapshot, error) {
	kept, ok := im.(keeper)
	if !ok {
		return build(h, im, k)
	}
	k.Returning = false // it decides about proven lines only
	if s, there := kept.Built(k); there {
		return s, nil
	}
	s, err := build(h, im, k)
	if err == nil {
		kept.Keep(k, s)
	}
	return s, err
}
