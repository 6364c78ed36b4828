#!/usr/bin/env bash
# outside.sh COMMAND...: runs the command on a machine of its own, a network
# namespace whose only neighbour is another one. There the host
# outside.example listens at 443, and a resolver knows it; nothing else is
# outside. The command has its name in OUTSIDE, and may come there and ask for
# it once: whoever does so besides has got out, and the command has failed.
# Needs root and Go.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
outside=203.0.113.1 here=203.0.113.254 name=outside.example
space=lzwalk$$ work=$(mktemp -d "${TMPDIR:-/tmp}/laz-outside-XXXXXX")
listener=
stop() {
  local status=$?
  [ -z "$listener" ] || kill "$listener" 2>/dev/null || true
  ip netns del "${space}h" 2>/dev/null || true
  ip netns del "${space}o" 2>/dev/null || true
  rm -rf "$work"
  exit "$status"
}
trap stop EXIT

CGO_ENABLED=0 "${GO:-go}" build -C "$root/e2e" -trimpath -o "$work/toybox" ./kube/toybox
for ns in "${space}h" "${space}o"; do
  ip netns add "$ns"
  ip -n "$ns" link set lo up
done
ip -n "${space}h" link add wan0 type veth peer name wan0 netns "${space}o"
ip -n "${space}h" addr add $here/24 dev wan0
ip -n "${space}o" addr add $outside/24 dev wan0
ip -n "${space}h" link set wan0 up
ip -n "${space}o" link set wan0 up
ip -n "${space}h" route add unreachable default
printf 'nameserver %s\noptions attempts:1\n' $outside >"$work/resolv.conf"

nsenter --net="/run/netns/${space}o" "$work/toybox" outside $outside $name >"$work/log" & listener=$!
for _ in $(seq 50); do
  [ ! -s "$work/log" ] || break
  sleep 0.1
done
OUTSIDE=$name nsenter --net="/run/netns/${space}h" unshare -m --propagation private \
  sh -ec 'mount --bind "$0" /etc/resolv.conf; exec "$@"' "$work/resolv.conf" "$@"
printf '\n== who came to %s, and who asked for its name\n' $name
cat "$work/log"
if [ "$(grep -c '^reached' "$work/log")" -ne 1 ] || [ "$(grep -c '^asked' "$work/log")" -gt 2 ]; then # A and AAAA
  echo "others than this machine came to $name or asked for it" >&2
  exit 1
fi
