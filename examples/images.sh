#!/usr/bin/env bash
# Builds the images of the examples into bin/images: static Go programs, and a
# Node.js program with the node of this machine and the libraries it needs.
#
#     make images            or: LAZ=path/to/laz examples/images.sh
set -euo pipefail
cd "$(dirname "$0")/.."

: "${LAZ:=bin/laz}" "${GO:=go}"
out=bin/images work=.cache/images
mkdir -p "$out" "$work"

(cd examples/msal-go && CGO_ENABLED=0 "$GO" build -trimpath -buildvcs=false -ldflags='-s -w' -o "../../$work/msal-go" .)
"$LAZ" image build -t lazurite.dev/examples/msal-go:v1 -o "$out/msal-go.tar" "$work/msal-go"

for service in ai-service product-service store-admin; do
  (cd examples/store && CGO_ENABLED=0 "$GO" build -trimpath -buildvcs=false -ldflags='-s -w' -o "../../$work/$service" "./$service")
  "$LAZ" image build -t "lazurite.dev/examples/store/$service:v1" -o "$out/$service.tar" "$work/$service"
done

if ! command -v npm >/dev/null; then
  echo 'missing: npm, of Node.js 20 or newer; no image of examples/msal-node'
  [ -z "${CI:-}" ] || exit 1
  exit 0
fi
node=$(readlink -f "$(command -v node)") archive=$out/msal-node.tar
newer=false
for source in examples/msal-node/{index.mjs,package.json,package-lock.json} examples/images.sh "$node"; do
  [ "$archive" -nt "$source" ] || newer=true
done
$newer || { echo "$archive is there"; exit 0; }

root=$work/msal-node
rm -rf "$root"
mkdir -p "$root"/{app,etc,tmp,usr/bin}
chmod 1777 "$root/tmp"
cp examples/msal-node/{index.mjs,package.json,package-lock.json} "$root/app/"
(cd "$root/app" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --silent)
rm -f "$root/app/node_modules/.package-lock.json"
cp "$node" "$root/usr/bin/node"
ldd "$node" | sed -n 's#.*=> \(/[^ ]*\) .*#\1#p; s#^\t\(/[^ ]*\) .*#\1#p' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
"$LAZ" image build -t lazurite.dev/examples/msal-node:v1 --entrypoint '/usr/bin/node /app/index.mjs' --workdir /app -o "$archive" "$root"
