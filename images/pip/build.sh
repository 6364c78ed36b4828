#!/usr/bin/env bash
# Puts pip into bin/images/pip-VERSION-py3-none-any.whl, out of Debian's package of it, without root. It runs in the images
# upon which environments are built (environments.build: pip), with their Python, and is part of none of them. Where the
# wheel of Debian's version is there, nothing is got.
#
#     make images            or: images/pip/build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
package=python3-pip-whl out=bin/images work=$PWD/.cache/images/pip
export LC_ALL=C
give_up() { echo "$1; environments can't be built with pip"; [ -z "${CI:-}" ] || exit 1; exit 0; }

mkdir -p "$work" "$out"
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up 'missing: apt-get and dpkg-deb, of Debian'
options=(-o APT::Sandbox::User=)
if ! uris=$(apt-get "${options[@]}" download --print-uris "$package" 2>"$work/apt.log"); then # no lists on this machine: lists of our own
  options+=(-o "Dir::State=$work/apt" -o "Dir::Cache=$work/apt")
  mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial"
  { apt-get "${options[@]}" update -qq 2>"$work/apt.log" && uris=$(apt-get "${options[@]}" download --print-uris "$package" 2>"$work/apt.log"); } || {
    if compgen -G "$out/pip-*.whl" >/dev/null; then echo "$out has pip; whether it has changed is not known"; exit 0; fi
    tail -n 3 "$work/apt.log"; give_up 'the package cannot be found'
  }
fi
read -r _ file _ <<<"$uris"
if [ "$(cat "$work/key" 2>/dev/null)" = "$file" ] && compgen -G "$out/pip-*.whl" >/dev/null; then echo "$out has pip of $file"; exit 0; fi
rm -rf "$work"/*.deb "$work/root" # apt compares what it gets with the hashes in the signed lists
(cd "$work" && apt-get "${options[@]}" download -qq "$package") 2>"$work/apt.log" || { tail -n 3 "$work/apt.log"; give_up 'the package cannot be had'; }
mkdir -p "$work/root"
dpkg-deb --fsys-tarfile "$work"/*.deb | tar -x -C "$work/root" ./usr/share/python-wheels
rm -f "$out"/pip-*.whl
cp "$work"/root/usr/share/python-wheels/pip-*-py3-none-any.whl "$out/"
rm -rf "$work/root" "$work"/*.deb
echo "$file" >"$work/key"
echo "$out has pip of $file"
