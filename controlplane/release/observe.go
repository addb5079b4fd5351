package release

func (st *step) observe(Observe) {}
