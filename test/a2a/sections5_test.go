package a2a

// sections5 are the bindings, security, discovery, and what follows them in the specification.
func sections5() []requirement { return nil }
