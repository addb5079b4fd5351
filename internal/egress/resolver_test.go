//go:build !cgo

package egress_test

var resolvers = []string{"go"}
