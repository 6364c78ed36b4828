#!/usr/bin/env bash
# Builds the image that scores scikit-learn models, out of Debian packages, without Docker and without root, into
# bin/images/azureml-sklearn.tar. It needs Debian's package manager (apt, dpkg) and its lists of packages. Where nothing has
# changed, neither a package nor a file of ours, it builds nothing.
#
#     make images            or: LAZ=path/to/laz images/azureml-sklearn/build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${LAZ:=bin/laz}"
name=lazurite.dev/azureml/sklearn:v1
archive=bin/images/azureml-sklearn.tar work=$PWD/.cache/images/azureml-sklearn server=images/inference-server
export LC_ALL=C SOURCE_DATE_EPOCH=0
umask 022

# What scripts import, and what serves them. What these need is found by apt's solver.
packages=(python3 python3-sklearn python3-joblib python3-numpy python3-scipy python3-pandas python3-cloudpickle python3-yaml
  python3-requests python3-flask gunicorn
  python3-distutils dash ca-certificates media-types tzdata)
# What packages ask for, and a running script does not: compilers (scipy names pythran), perl, and what configures a system.
unneeded='^((gcc|g\+\+|cpp)(-[0-9]+)?|.*binutils.*|.*-dev(-bin)?|linux-libc-dev|.*perl.*|dpkg|tar|usrmerge|init-system-helpers|debconf|openssl|procps
|python3-(pythran|beniget|gast|ply|all|lib2to3|setuptools)|libjs-.*|lib(a|t|l|hwa)san[0-9]+|libubsan1|libitm1|libcc1-0|libisl.*|libmp[cf].*|libgmp10|libctf.*|libgprofng0
|libjansson4|libproc2-0|libgdbm.*|rpcsvc-proto|readline-common|libsystemd0|libcap2|libgcrypt20|libgpg-error0|liblz4-1|libpython3\.[0-9]+(t64)?)$'
unneeded=${unneeded//$'\n'/}

sources() { find "$server" images/azureml-sklearn -type f -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum; }
give_up() { echo "$1; no image $name"; [ -z "${CI:-}" ] || exit 1; exit 0; }

mkdir -p "$work/debs" bin/images
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || give_up "missing: apt-get and dpkg-deb, of Debian"
solve() { apt-get "$@" install --print-uris -qq -y --no-install-recommends -o Dir::State::status=/dev/null "${packages[@]}" 2>"$work/apt.log"; }
own=(-o "Dir::State=$work/apt" -o "Dir::Cache=$work/apt" -o APT::Sandbox::User=)
options=()
if ! uris=$(solve); then # no lists on this machine: lists of our own
  options=("${own[@]}")
  mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial"
  { apt-get "${own[@]}" update -qq 2>"$work/apt.log" && uris=$(solve "${own[@]}"); } || {
    if [ -e "$archive" ]; then echo "$archive is there; whether packages have changed is not known"; exit 0; fi
    tail -n 3 "$work/apt.log"; give_up 'the packages cannot be found'
  }
fi
key=$({ echo "$name"; sources; echo "$uris"; } | sha256sum)
if [ -e "$archive" ] && [ "$(cat "$work/key" 2>/dev/null)" = "$key" ]; then echo "$archive is there"; exit 0; fi

wanted=() files=()
while read -r _ file _; do # 'URI' NAME_VERSION_ARCH.deb SIZE HASH
  package=${file%%_*} version=${file#*_} version=${version%_*}
  if grep -qE "$unneeded" <<<"$package"; then continue; fi
  files+=("$file")
  [ -s "$work/debs/$file" ] || wanted+=("$package=${version//%3a/:}")
done <<<"$uris"
if [ ${#wanted[@]} -gt 0 ]; then
  echo "getting ${#wanted[@]} packages of Debian"
  # apt compares what it gets with the hashes in the signed lists
  (cd "$work/debs" && apt-get "${options[@]}" download -qq -o APT::Sandbox::User= "${wanted[@]}") 2>"$work/apt.log" || { tail -n 3 "$work/apt.log"; give_up 'a package cannot be had'; }
fi

root=$work/root
rm -rf "$root"
mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{etc,tmp,dev,proc,sys,var/azureml-app,usr/share/lazurite,usr/lib/python3/dist-packages}
for d in bin sbin lib lib64; do ln -s "usr/$d" "$root/$d"; done
chmod 1777 "$root/tmp"
for f in "${files[@]}"; do
  dpkg-deb --fsys-tarfile "$work/debs/$f" | tar -x -C "$root" --no-same-owner --keep-directory-symlink \
    --exclude='./usr/share/doc/*/*.gz' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' --exclude='./usr/share/info/*' --exclude='./usr/share/lintian/*' \
    --exclude='./usr/share/bug/*' --exclude='./usr/share/python3/*' --exclude='*/gconv/*' --exclude='*/dist-packages/*/tests/*' --exclude='*/f2py/*' \
    --exclude='*/sklearn/datasets/data/*' --exclude='*/sklearn/datasets/images/*' --exclude='*.a' --exclude='*.pyi' --exclude='*/numpy/core/include/*'
done
# What the packages' own scripts would do on a system
triplet=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -dumpmachine 2>/dev/null || basename "$(dirname "$(ls -d "$root"/usr/lib/*/libc.so.6)")")
libraries=$root/usr/lib/$triplet
for l in blas lapack; do ln -sfn "openblas-pthread/lib$l.so.3" "$libraries/lib$l.so.3"; done
ln -sfn openblas-pthread/libopenblas.so.0 "$libraries/libopenblas.so.0"
[ -e "$root/usr/bin/sh" ] || ln -s dash "$root/usr/bin/sh"
mkdir -p "$root/etc/ssl/certs"
find "$root/usr/share/ca-certificates" -name '*.crt' -print0 | sort -z | xargs -0 cat >"$root/etc/ssl/certs/ca-certificates.crt"
printf 'root:x:0:0:root:/:/usr/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
rm -rf "$root"/{var/lib,var/cache,var/log,etc/init.d,etc/default,etc/cron*,media,mnt,opt,srv,run,boot,home}

# Ours
for p in inferenceserver azureml_inference_server_http azureml; do cp -r "$server/$p" "$root/usr/lib/python3/dist-packages/"; done
printf '#!/usr/bin/python3\nimport sys\nfrom inferenceserver.__main__ import main\nsys.exit(main())\n' >"$root/usr/bin/azmlinfsrv"
chmod 755 "$root/usr/bin/azmlinfsrv"
find "$root" -name __pycache__ -prune -exec rm -rf {} +

# The image's own Python, run from here: what it compiles needs no look at the time of a file, and starts the quicker
python=$(cd "$root/usr/bin" && ls python3.[0-9]* | grep -xE 'python3\.[0-9]+')
inside() {
  env -i PATH=/usr/bin:/bin PYTHONHOME="$root/usr" PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1 \
    "$(ls "$root"/usr/lib64/ld-linux*.so.* "$libraries"/ld-linux*.so.* 2>/dev/null | head -n 1)" --inhibit-cache --library-path "$libraries" "$root/usr/bin/$python" -s "$@"
}
inside -m compileall -q --invalidation-mode unchecked-hash -s "$root" "$root/usr/lib/$python" "$root/usr/lib/python3/dist-packages" >"$work/compile.log" 2>&1 || true # Debian ships some files for other Pythons
printf '%s\n' "${files[@]}" | inside images/azureml-sklearn/manifest.py "$root" >"$root/usr/share/lazurite/packages.json"

"$LAZ" image build -t "$name" --entrypoint '/usr/bin/azmlinfsrv' --workdir /var/azureml-app --expose 5001 \
  -e HOME=/tmp -e LANG=C.UTF-8 -e PYTHONUNBUFFERED=1 -e PYTHONDONTWRITEBYTECODE=1 -e AML_APP_ROOT=/var/azureml-app -e SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
  --label "dev.lazurite.packages=$(inside -c 'import json,sys; d=json.load(open(sys.argv[1])); d.pop("debian"); print(json.dumps(d, separators=(",",":"), sort_keys=True))' "$root/usr/share/lazurite/packages.json")" \
  -o "$archive" "$root"
rm -rf "$root"
echo "$key" >"$work/key"
