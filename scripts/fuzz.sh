#!/usr/bin/env bash
# Runs every fuzz target for the given time (default 30s). An interesting input is made smaller in 20 runs at most: the default, a minute,
# would eat the run.
set -euo pipefail
cd "$(dirname "$0")/.."
for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
    echo "-- $target ($(dirname "$file"))"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-30s}" -fuzzminimizetime 20x "./$(dirname "$file")"
  done
done
