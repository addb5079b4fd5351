package tool

// ArgumentsError is Call's error for arguments that the tool's schema refuses: nothing was sent. The model gets one round to mend
// them.
type ArgumentsError struct{ Message string }

// Error gives the schema's complaint.
func (e *ArgumentsError) Error() string { return "arguments: " + e.Message }
