#!/usr/bin/env bash
# Installs what the fault suite needs beside Go, where this runs as root on a system with apt and something is missing. Elsewhere it
# only says what is missing: the suite leaves the faults out that need it, and says so too.
set -euo pipefail

missing=()
for pair in strace:strace nft:nftables iptables-legacy:iptables ip:iproute2; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "chaos: not installed: ${missing[*]}; the faults that need them are left out"
  exit 0
fi
echo "chaos: installing ${missing[*]}"
apt-get update -qq || echo "chaos: apt-get update failed; trying with the lists that are there"
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || echo "chaos: could not install ${missing[*]}; the faults that need them are left out"
