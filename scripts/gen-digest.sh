#!/usr/bin/env bash
# Prints a digest of everything that generated code is made from and of the generated code itself. `make generate` writes it to
# gen/DIGEST; `make test` compares, so that a test run need not compile buf.
set -euo pipefail
cd "$(dirname "$0")/.."
{
  find proto -name '*.proto' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  sha256sum buf.yaml buf.gen.yaml
  grep -E '^\s+(google.golang.org/protobuf|google.golang.org/grpc/cmd/protoc-gen-go-grpc|connectrpc.com/connect) v' go.mod | sed 's/ *\/\/.*//' | LC_ALL=C sort
  find gen -name '*.go' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
} | sha256sum | cut -d' ' -f1
