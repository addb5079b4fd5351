#!/usr/bin/env bash
# Installs what the tests start or run for themselves, redis-server and curl, where it is missing and this runs as root on a system with apt.
# Elsewhere it says so and fails: those tests don't skip themselves.
set -euo pipefail

missing=()
for tool in redis-server curl; do
  command -v "$tool" >/dev/null || missing+=("$tool") # the packages have the programs' names
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "needed for the tests: ${missing[*]} (redis-server 7 or newer); install the packages of these names"
  exit 1
fi
echo "installing ${missing[*]}"
for try in 1 2 3; do
  apt-get update -qq || echo "apt-get update failed; trying with the lists that are there"
  # The package of redis-server starts a server of its own on port 6379 where an init system runs; nothing of ours uses it.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends "${missing[@]}" ca-certificates >/dev/null && break
  [ "$try" -lt 3 ] || exit 1
done
for tool in "${missing[@]}"; do command -v "$tool" >/dev/null; done
