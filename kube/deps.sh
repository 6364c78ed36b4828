#!/usr/bin/env bash
# Brings what the distribution is built with and what its nodes need of the
# machine: with root or a sudo that asks nothing, and Debian's package manager.
# Otherwise it says what is missing.
set -euo pipefail

missing=()
have() { # have PACKAGE TEST…: the package is missing when the test fails
  local package=$1; shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
have gcc command -v gcc                                                                # runc's first steps are C
have libc6-dev sh -c 'echo "#include <stdio.h>" | gcc -E -x c -'
have libseccomp-dev sh -c 'echo "#include <seccomp.h>" | gcc -E -x c - && gcc -print-file-name=libseccomp.a | grep -q /'
have nftables env PATH="$PATH:/usr/sbin:/sbin" nft --version                           # rules of nodes and services

[ ${#missing[@]} -gt 0 ] || exit 0
root=()
[ "$(id -u)" -eq 0 ] || root=(sudo -n)
if command -v apt-get >/dev/null && "${root[@]}" true 2>/dev/null; then
  echo "installing ${missing[*]}"
  install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
  log=$(mktemp)
  { "${install[@]}" update && "${install[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 ||
    { tail -n 20 "$log"; rm -f "$log"; echo "could not install ${missing[*]}"; exit 1; }
  rm -f "$log"
else
  echo "missing: ${missing[*]}. On Debian: sudo apt-get install ${missing[*]}"
  exit 1
fi
