#!/usr/bin/env bash
# Three control planes on this machine, etcd embedded in each, for trying what happens when one dies. Ctrl-C ends them all.
#
#   deploy/three.sh DIR [BIN]       DIR keeps their data, BIN holds the programs (default: bin)
#
# Everything listens on the loopback without TLS, and the bearer of DIR/token is administrator: nothing for others to reach.
# PORT_BASE (7100) is the first of three hundred ports: people, runtime and cluster door of the first are 7100, 7101 and 7102.
set -euo pipefail
dir=${1:?usage: deploy/three.sh DIR [BIN]} bin=${2:-bin} base=${PORT_BASE:-7100}
umask 077
mkdir -p "$dir"
[ -e "$dir/kek" ] || head -c 32 /dev/urandom | base64 >"$dir/kek"
[ -e "$dir/token" ] || echo "agt_$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')" >"$dir/token"
cluster=1=127.0.0.1:$((base + 2)),2=127.0.0.1:$((base + 102)),3=127.0.0.1:$((base + 202))
servers=
trap 'trap - EXIT; kill $(jobs -p) 2>/dev/null || true; wait' EXIT INT TERM
for n in 1 2 3; do
  people=127.0.0.1:$((base + 100 * (n - 1))) runtime=127.0.0.1:$((base + 100 * (n - 1) + 1))
  mkdir -p "$dir/$n"
  cp "$dir/token" "$dir/$n/token"
  "$bin/controlplane" --data-dir "$dir/$n" --kek-file "$dir/kek" --cluster "$cluster" --cluster-name "$n" \
    --people-addr "$people" --runtime-addr "$runtime" 2>"$dir/$n/log" &
  echo $! >"$dir/$n/pid"
  servers=$servers${servers:+,}http://$people
done
echo "export AGENTCTL_SERVER=$servers AGENTRY_TOKEN_FILE=$dir/token"
wait
