package a2a

// section4 is the data model.
func section4() []requirement { return nil }
