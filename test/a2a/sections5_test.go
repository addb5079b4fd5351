package a2a

import "slices"

// sections5 are push notifications and versions, and everything from section 5 on.
func sections5() []requirement {
	return slices.Concat(pushConfigs(), notifications(), versions(), extensions(), equivalence(), jsonConventions(), security(), discovery(), overJSONRPC(), overGRPC(), overREST(), scoping(), safety())
}
