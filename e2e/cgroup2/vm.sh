#!/usr/bin/env bash
# Runs guest.sh in a small machine of its own whose kernel has cgroup v2 and
# nothing of v1: for those who develop on a machine with v1, and to try the
# kernel of a Debian. It needs Linux, qemu-system-x86, busybox-static, cpio and
# e2fsprogs, and a kernel with its modules; it asks for no root, and changes
# nothing of this machine.
#
#   vm.sh [STEP...]     of guest.sh. units: the tests of internal/node that need no
#                       cluster; node: a node without a control plane; cluster: all,
#                       which needs kvm, or hours. None named: what the processor is good for
#
# Variables:
#   KERNEL   folder of an unpacked linux-image package of Debian; else it is
#            downloaded and unpacked into the work folder
#   WORK     where the machine's disk and logs are: bin/cgroup2
#   MEMORY   MiB of the machine, 4096; CPUS, 2
#   ACCEL    kvm or tcg (software: 20 to 50 times slower); kvm where the processor can
#   LIMIT    seconds that all may take, 7200
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
PATH=$PATH:/usr/sbin:/sbin
work=${WORK:-$top/bin/cgroup2}
mkdir -p "$work/out"
rm -f "$work"/out/* "$work/console.log"

accel=${ACCEL:-}
if [ -z "$accel" ]; then
  if [ -w /dev/kvm ] && grep -qE '\b(vmx|svm)\b' /proc/cpuinfo; then accel=kvm; else accel=tcg; fi
fi
if [ $# -eq 0 ]; then
  set -- units node
  [ "$accel" = tcg ] || set -- units node cluster
fi

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need qemu-system-x86_64 qemu-system-x86
need busybox busybox-static
need cpio cpio
need mke2fs e2fsprogs
need nft nftables
need ip iproute2
need nsenter util-linux
need sh dash
if [ ${#missing[@]} -gt 0 ]; then
  echo "make cgroup2 needs: sudo apt-get install --no-install-recommends ${missing[*]}"
  exit 1
fi
kube=$(readlink -f "$top/bin/kube")
[ -x "$kube/bin/kubernetes" ] || { echo 'make cgroup2 needs the distribution: make kube'; exit 1; }

kernel=${KERNEL:-$work/kernel}
if ! ls "$kernel"/boot/vmlinuz-* >/dev/null 2>&1; then
  image=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
  echo "downloading $image, which is only unpacked into $kernel"
  (cd "$work" && apt-get -qq download "$image" && dpkg-deb -x "$image"_*.deb "$kernel" && rm "$image"_*.deb)
fi
release=$(basename "$(ls "$kernel"/boot/vmlinuz-* | head -n 1)" | sed 's/^vmlinuz-//')
modules=$kernel/lib/modules/$release

# The first steps: find the disk, go there.
early=$work/early
rm -rf "$early" && mkdir -p "$early"/{bin,proc,root,modules}
cp "$(command -v busybox)" "$early/bin/busybox"
ext4=(lib/crc16 crypto/crc32c_generic fs/mbcache fs/jbd2/jbd2 fs/ext4/ext4)
virtio=(drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci drivers/block/virtio_blk)
order=()
for m in "${virtio[@]}" "${ext4[@]}"; do
  if [ -e "$modules/kernel/$m.ko" ]; then # others are part of the kernel
    cp "$modules/kernel/$m.ko" "$early/modules/"
    order+=("$(basename "$m")")
  fi
done
cat >"$early/init" <<END
#!/bin/busybox sh
for m in ${order[*]}; do /bin/busybox insmod /modules/\$m.ko || echo "insmod \$m"; done
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null || { /bin/busybox mkdir -p /dev; /bin/busybox mount -t devtmpfs dev /dev; }
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
END
chmod +x "$early/init"
(cd "$early" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/early.gz"

# The disk: programs of this machine with their libraries, the modules, and
# what is to be looked at.
root=$work/root
rm -rf "$root"
mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,usr/lib64,etc/ssl/certs,dev,proc,sys,run,tmp,root,var/lib,var/log,opt,check/out,home,mnt}
for folder in bin sbin lib lib64; do ln -s "usr/$folder" "$root/$folder"; done
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $(busybox --list); do
  [ "$applet" = busybox ] || ln -sf /bin/busybox "$root/bin/$applet"
done
ln -s /bin/busybox "$root/sbin/init"
ln -s /bin/busybox "$root/sbin/modprobe"
for program in sh nft ip nsenter unshare mount umount; do
  file=$(readlink -f "$(command -v $program)")
  rm -f "$root/bin/$program"
  cp "$file" "$root/usr/sbin/$program"
  ln -s "/usr/sbin/$program" "$root/usr/bin/$program"
  ldd "$file" | grep -o '/[^ ]*' | while read -r lib; do
    mkdir -p "$root$(dirname "$lib")" && cp -nL "$lib" "$root$lib"
  done
done
mkdir -p "$root/lib/modules/$release/kernel"
cp "$modules"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$release/"
for part in net fs lib crypto arch drivers/net/veth.ko drivers/net/dummy.ko drivers/block drivers/virtio drivers/char/hw_random; do
  mkdir -p "$root/lib/modules/$release/kernel/$(dirname "$part")"
  cp -r "$modules/kernel/$part" "$root/lib/modules/$release/kernel/$part"
done
cp -rL "$kube" "$root/opt/kube"
cp "$top/bin/laz" "$root/usr/bin/laz"
cp "$here/guest.sh" "$here/inittab" "$root/check/"
mv "$root/check/inittab" "$root/etc/inittab"
cat >"$root/etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
user:x:1000:1000:user:/home:/bin/sh
END
printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
printf 'PRETTY_NAME="cgroup v2"\n' >"$root/etc/os-release"
: >"$root/etc/resolv.conf"
mkdir -p "$root/check/tests"
for part in box wire agent kube; do
  (cd "$top" && CGO_ENABLED=0 go test -c -o "$root/check/tests/$part.test" "./internal/node/$part")
done
(cd "$top/e2e/kube/toybox" && CGO_ENABLED=0 go build -trimpath -o "$root/check/toybox" .)
printf '%s\n' "$@" >"$root/check/steps"
[ -z "${STAY:-}" ] || touch "$root/check/stay"
chmod +x "$root/check/guest.sh"
rm -f "$work/disk"
mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0,lazy_itable_init=1 -d "$root" "$work/disk" 8G
rm -rf "$root" "$early"

case $accel in
tcg) speed=(-accel "tcg,thread=multi,tb-size=1024" -cpu max) ;;
*) speed=(-accel "$accel" -cpu host) ;;
esac
console=$work/console.log
echo "a machine with Linux $release and cgroup v2, by $accel; what it says: $console"
status=0
timeout "${LIMIT:-7200}" nice -n 15 qemu-system-x86_64 "${speed[@]}" -smp "${CPUS:-2}" -m "${MEMORY:-4096}" -nodefaults -no-user-config -display none -no-reboot \
  -kernel "$kernel/boot/vmlinuz-$release" -initrd "$work/early.gz" \
  -append "console=ttyS0 quiet panic=1 cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1 mitigations=off nokaslr no_timer_check" \
  -drive "file=$work/disk,if=virtio,format=raw,cache=unsafe" \
  -virtfs "local,path=$work/out,mount_tag=out,security_model=none" \
  -device virtio-rng-pci \
  -chardev "file,id=con,path=$console" -serial chardev:con \
  -chardev "socket,id=shell,path=$work/shell,server=on,wait=off" -serial chardev:shell || status=$?
rm -f "$work/disk" "$work/early.gz"
if [ $status -eq 124 ]; then echo "it took longer than ${LIMIT:-7200} seconds"; fi
sed -n 's/^CHECK //p' "$console" | tr -d '\r'
grep -q '^CHECK end, 0 wrong' "$console" || { tail -n 30 "$console"; exit 1; }
