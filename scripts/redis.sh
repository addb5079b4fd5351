#!/usr/bin/env bash
# Installs redis-server, which tests of shared memory start for themselves, where it is missing and this runs as root on a system with
# apt. Elsewhere it says so and fails: those tests don't skip themselves.
set -euo pipefail

if command -v redis-server >/dev/null; then exit 0; fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "redis-server (7 or newer) is needed: install the package redis-server"
  exit 1
fi
echo "installing redis-server"
apt-get update -qq || echo "apt-get update failed; trying with the lists that are there"
# The package starts a server of its own on port 6379 where an init system runs; nothing of ours uses it.
DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends redis-server >/dev/null
command -v redis-server >/dev/null
