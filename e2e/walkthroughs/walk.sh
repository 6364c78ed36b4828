#!/usr/bin/env bash
# walk.sh NAME: runs the walkthrough NAME with laz as az, in a cloud of its own
# that is erased afterwards: twice in a row in one state folder, and once more
# after `laz down` and `laz up`, with a copy of the sample if it has one.
#
#     LAZ=path/to/laz WALKTHROUGHS=folder e2e/walkthroughs/walk.sh keyvault
#     SAMPLE=folder e2e/walkthroughs/walk.sh endpoints
#
# NAME.yaml beside this file, where there is one, is the cloud's configuration.
# The walkthrough endpoints runs in a network of its own, in which one host is
# outside: it is reached from here, and must not be from a deployment. OUTSIDE
# names another host instead, one that this machine reaches at port 443.
set -euo pipefail

name=$1
root=$(cd "$(dirname "$0")/../.." && pwd)
if [ "$name" = endpoints ] && [ -z "${OUTSIDE:-}" ]; then exec "$root/e2e/walkthroughs/outside.sh" "$root/e2e/walkthroughs/walk.sh" "$@"; fi
LAZ=$(realpath "${LAZ:-$root/bin/laz}")
script=$(realpath "${WALKTHROUGHS:-$root/e2e/walkthroughs}")/$name.sh
[ -f "$script" ] || { echo "there is no walkthrough $script" >&2; exit 2; }

work=$(mktemp -d "${TMPDIR:-/tmp}/laz-walk-XXXXXX")
export LAZ_HOME=$work/state HOME=$work/home
mkdir "$HOME"

stop() {
  local status=$?
  if [ "$status" -ne 0 ]; then
    "$LAZ" status || true
    tail -n 40 "$LAZ_HOME/log/laz.log" 2>/dev/null || true
  fi
  "$LAZ" down --purge --yes >/dev/null 2>&1 || status=1
  rm -rf "$work"
  exit "$status"
}
trap stop EXIT

config=()
[ ! -f "$root/e2e/walkthroughs/$name.yaml" ] || config=(--config "$root/e2e/walkthroughs/$name.yaml")
if [ -n "${SAMPLE:-}" ]; then
  SAMPLE=$(realpath "$SAMPLE")
  export SAMPLE
else
  unset SAMPLE
fi
offline=--offline
if [ -n "${OUTSIDE:-}" ]; then # to refuse it means something where it could be reached
  offline=--offline=false
  timeout 5 bash -c ": </dev/tcp/$OUTSIDE/443" || { echo "this machine does not reach OUTSIDE=$OUTSIDE at 443" >&2; exit 1; }
fi
up() { "$LAZ" up -d "$offline" --port 0 "${config[@]}" >/dev/null; }
walk() {
  printf '\n== %s, %s\n' "$name" "$1"
  "$LAZ" run -- bash "$script"
}

: "${MSAL_IMAGE:=lazurite.dev/examples/msal-go:v1}"
: "${AI_SERVICE_IMAGE:=lazurite.dev/examples/store/ai-service:v1}"
: "${PRODUCT_SERVICE_IMAGE:=lazurite.dev/examples/store/product-service:v1}"
: "${STORE_ADMIN_IMAGE:=lazurite.dev/examples/store/store-admin:v1}"
export MSAL_IMAGE AI_SERVICE_IMAGE PRODUCT_SERVICE_IMAGE STORE_ADMIN_IMAGE
up
for archive in "$root"/bin/images/*.tar; do
  case $archive in */azureml-*) continue ;; esac # workspaces take theirs from beside laz
  "$LAZ" image load "$archive" >/dev/null
done
walk 'in a new cloud'
walk 'again in the same one'
"$LAZ" down >/dev/null
up
last='after laz down and laz up'
if [ -z "${SAMPLE:-}" ] && [ -d "${script%/*}/sample" ]; then # nothing may hang on where the sample lies
  cp -r "${script%/*}/sample" "$work/another sample"
  export SAMPLE="$work/another sample"
  last="$last, with another copy of the sample"
fi
walk "$last"
