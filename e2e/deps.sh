#!/usr/bin/env bash
# Brings what the tests need: with root or a sudo that asks nothing, and Debian's
# package manager. Otherwise it says what is missing; tests that need it are
# skipped by name, or fail where CI is set.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
have() { # have PACKAGE TEST…: the package is missing when the test fails
  local package=$1; shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
have postgresql sh -c 'command -v initdb || ls /usr/lib/postgresql/*/bin/initdb'
have azure-cli test -x /usr/bin/az
have python3-azure /usr/bin/python3 -c 'import azure.identity, azure.keyvault.secrets, azure.keyvault.keys, azure.keyvault.certificates'
have curl command -v curl
have chromium command -v chromium
have bind9-dnsutils command -v dig
have iproute2 env PATH="$PATH:/usr/sbin:/sbin" ip -V

root=()
[ "$(id -u)" -eq 0 ] || root=(sudo -n)
if [ ${#missing[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null && "${root[@]}" true 2>/dev/null; then
    echo "installing ${missing[*]}"
    install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    log=$(mktemp)
    { "${install[@]}" update && "${install[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
      { tail -n 20 "$log"; echo "could not install ${missing[*]}"; [ -z "${CI:-}" ] || exit 1; }
    rm -f "$log"
  else
    echo "missing: ${missing[*]}. On Debian: sudo apt-get install ${missing[*]}"
    [ -z "${CI:-}" ] || exit 1
  fi
fi

if command -v npm >/dev/null; then
  for dir in js llama; do
    if [ ! -e $dir/node_modules/.package-lock.json ] || [ $dir/package-lock.json -nt $dir/node_modules/.package-lock.json ]; then
      (cd $dir && npm ci --silent --omit=optional)
    fi
  done
else
  echo 'missing: npm, of Node.js 20 or newer'
  [ -z "${CI:-}" ] || exit 1
fi
