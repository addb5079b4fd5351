// Package check holds deploy/ to its word. It reads Dockerfile and compose.yaml with the libraries of those who run them, the units with
// systemd-analyze, builds by the Dockerfile's own lines, and starts the topologies as plain processes from the same files. It is a module
// of its own, so that nothing of it is a dependency of the product.
package check
