package release

// Step gives what becomes of an agent's state by an event. s is not changed. A new agent's state is the zero State. The first action is Refuse or Unchanged if nothing is to be written by a
// person's event.
func Step(s State, e Event) (State, []Action) {
	st := step{s: s.clone()}
	switch e := e.(type) {
	case Apply:
		st.apply(e)
	case Rollback:
		st.rollback(e)
	case Abort:
		st.abort(e.At)
	case Retry:
		st.retry(e)
	case Unhold:
		st.unhold()
	case Delete:
		st.remove(e)
	case Observe:
		st.observe(e)
	}
	if len(st.out) == 1 {
		switch st.out[0].(type) {
		case Refuse, Unchanged:
			return s, st.out
		}
	}
	return st.s, st.out
}

// OwnMove reports whether the actions hold a move that changes what instances get: the write that carries it is the
// head's last own move. Shared versions that are held back or freed leave it as it is: what a rollback takes back is still
// on its way.
func OwnMove(actions []Action) bool {
	for _, a := range actions {
		m, ok := a.(Moved)
		if !ok {
			continue
		}
		switch m.Move {
		case MoveProve, MoveVeto, MoveUnhold:
		default:
			return true
		}
	}
	return false
}
