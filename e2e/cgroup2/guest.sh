#!/bin/sh
# The part of vm.sh inside the machine: cgroup v2, mounts that are shared as
# systemd makes them, and nobody else. Lines that begin with CHECK are the
# result; what was said in detail is in the folder out of vm.sh.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LAZ_HOME=/var/lib/laz LAZ_KUBE=/opt/kube LAZ_TOYBOX=/check/toybox CI=true
out=/check/out
limit=3600 # seconds for what takes a few where no processor is emulated
wrong=0

say() { echo "CHECK $*"; }
good() { say "ok: $* ($(cut -d. -f1 /proc/uptime) s)"; }
bad() {
  say "WRONG: $*"
  wrong=$((wrong + 1))
}

# is NAME GOT WANT
is() { if [ "$2" = "$3" ]; then good "$1: $2"; else bad "$1: got '$2', want '$3'"; fi; }

# wait_for NAME COMMAND...: until it ends well
wait_for() {
  what=$1 end=$(($(date +%s) + limit))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ "$(date +%s)" -gt "$end" ]; then
      bad "not within $limit s: $what"
      return 1
    fi
    sleep 2
  done
  good "$what"
}

boot() {
  mount -t devtmpfs dev /dev
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  mount -t tmpfs -o mode=755 run /run
  mount -t tmpfs -o mode=1777 tmp /tmp
  mkdir -p /dev/pts /dev/shm /dev/mqueue
  mount -t devpts pts /dev/pts
  mount -t tmpfs shm /dev/shm
  mount -t mqueue mqueue /dev/mqueue
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount --make-rshared /
  depmod
  for m in 9pnet_virtio 9p virtio_rng overlay veth nf_tables nft_ct; do modprobe $m; done
  mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 out $out
  ip link set lo up
  hostname machine
  : >/etc/machine-id
}

# unit NAME PATTERN runs the compiled tests of a package of internal/node.
unit() {
  if "/check/tests/$1.test" -test.v -test.timeout 30m -test.run "$2" -test.skip "${3:-^$}" >"$out/$1.log" 2>&1; then
    good "tests of $1: $(grep -c '^--- PASS' "$out/$1.log")"
  else
    bad "tests of $1, see $1.log: $(grep -E '^--- FAIL|^panic' "$out/$1.log" | tr '\n' ' ')"
  fi
}

# units: what needs no cluster. LogsAreBounded measures the disk, which is slow here.
step_units() {
  unit box . LogsAreBounded
  unit wire .
  unit agent 'WithoutDistribution|Refuses|RunsOnly'
}

# node: containerd, runc and a kubelet without a control plane
step_node() { unit kube Node_Alone; }

kubectl() { /opt/kube/bin/kubernetes kubectl --kubeconfig /root/kubeconfig --request-timeout=2m "$@"; }

# pod NAME MEMORY WORDS asks for one of busybox.
pod() {
  printf '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"%s"},"spec":{"restartPolicy":"Never","terminationGracePeriodSeconds":1,
"containers":[{"name":"c","image":"lazurite.dev/busybox:v1","command":["/busybox",%s],"resources":{"limits":{"cpu":"250m","memory":"%s"}}}]}}' "$1" "$3" "$2" >"/tmp/$1.json"
  kubectl create --raw /api/v1/namespaces/default/pods -f "/tmp/$1.json"
}

field() { kubectl get --raw "$1" | tr -d ' \n' | grep -q "$2"; }
node_ready() { laz status -o json | tr -d ' \n' | grep -q '"ready":true'; }
all_run() { node_ready && ! laz status -o json | grep -qE '"state": *"(starting|waiting)"'; }

# left prints what of Lazurite is on the machine.
left() {
  find /sys/fs/cgroup -maxdepth 2 -name 'lazurite*'
  grep -E 'lazurite|/var/lib/laz|kubelet' /proc/self/mountinfo
  ip -brief link | grep -vE '^lo '
  ls -d /run/lazurite* /var/lib/laz 2>/dev/null
  nft list tables
  for p in /proc/[0-9]*; do
    tr '\0' ' ' <"$p/cmdline" 2>/dev/null | grep -E '^(laz|kubernetes|containerd|/.*containerd-shim)'
  done
  ls -l /proc/[0-9]*/ns/net 2>/dev/null | grep -o 'net:.*' | sort -u | tail -n +2
}

start() {
  laz up -d --offline --port 0 --clusters embedded >"$out/up.log" 2>&1 && good "laz up" || bad "laz up"
  laz image build -t lazurite.dev/busybox:v1 -o /tmp/busybox.tar /bin/busybox >>"$out/up.log" 2>&1 &&
    laz image load /tmp/busybox.tar >>"$out/up.log" 2>&1 || bad "the image"
  laz group create --name g --location eastus >>"$out/up.log" 2>&1 || bad "the group"
  # Where all is slow an add-on may not roll out in its time; what is there goes on, and is asked for again.
  laz aks create -g g -n c1 --node-count 1 --node-vm-size Standard_B2s --no-ssh-key >"$out/create.log" 2>&1
  end=$(($(date +%s) + limit))
  until laz aks show -g g -n c1 2>/dev/null | grep -q '"provisioningState": "Succeeded"' || [ "$(date +%s)" -gt "$end" ]; do
    say "again: $(grep -o 'could not be made ready.*' "$out/create.log" | head -n 1 | cut -c 1-300)"
    laz aks update -g g -n c1 >>"$out/create.log" 2>&1
  done
  wait_for "the node is ready" node_ready
  laz aks get-credentials -g g -n c1 --admin --file /root/kubeconfig --overwrite-existing >>"$out/create.log" 2>&1 || bad "credentials"
}

limits() {
  node=$(echo /sys/fs/cgroup/lazurite-*/c*-aks-*)
  is "the node's processors" "$(cat "$node/cpu.max")" "200000 100000"
  is "the node's memory" "$(cat "$node/memory.max")" $((4096 << 20))
  is "processes in the node's own cgroup" "$(cat "$node/cgroup.procs")" ""
  wait_for "a pod with limits is made" pod limited 64Mi '"sleep","100000"'
  wait_for "it runs" field /api/v1/namespaces/default/pods/limited '"phase":"Running"'
  found=$(find "$node/kubepods" -name memory.max | xargs grep -lx $((64 << 20)) | head -n 1)
  is "its cgroup" "$(cat "$(dirname "${found:-/none/x}")/cpu.max")" "25000 100000"
  kubectl get --raw /api/v1/namespaces/default/pods/limited >"$out/limited.json"
  find "$node" -type d >"$out/cgroups.txt"
  echo -cpu >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null && bad "somebody else, as systemd, could take the controller away" || good "nobody takes the controller away"
}

oom() {
  wait_for "another pod is made" pod greedy 32Mi '"tail","/dev/zero"'
  wait_for "a pod that takes too much is said to be OOMKilled" field /api/v1/namespaces/default/pods/greedy '"reason":"OOMKilled"'
}

kills() {
  for name in kubelet containerd; do
    pid=$(for p in /proc/[0-9]*; do tr '\0' ' ' <"$p/cmdline" 2>/dev/null | grep -qE "^(kubernetes )?$name " && basename "$p"; done | head -n 1)
    kill -9 "$pid" || bad "no $name to kill"
    sleep 5
    wait_for "all runs after $name was killed" all_run
  done
  wait_for "the pod went on" field /api/v1/namespaces/default/pods/limited '"restartCount":0.*"phase":"Running"\|"phase":"Running".*"restartCount":0'
}

step_cluster() {
  left >/tmp/before
  start
  limits
  oom
  kills
  laz status >"$out/status.txt" 2>&1
  laz doctor >"$out/doctor.txt" 2>&1 && good "laz doctor: all is well" || bad "laz doctor: $(grep -E '^ *no ' "$out/doctor.txt" | tr -s ' \n' ' ')"
  cp /var/lib/laz/node/clusters/*/log/*.log /var/lib/laz/log/laz.log "$out/"
  laz down --purge --yes >"$out/down.log" 2>&1 && good "laz down --purge" || bad "laz down --purge"
  sleep 5
  left >/tmp/after
  if cmp -s /tmp/before /tmp/after; then good "nothing is left"; else bad "left behind: $(diff /tmp/before /tmp/after | grep '^[+-][^+-]' | tr '\n' ';')"; fi
}

step_nothing() { :; }

if [ "$1" = boot ]; then
  boot
  exit 0
fi
if [ "$1" = steps ]; then # by hand, in the machine's shell
  shift
  for step in "$@"; do "$step"; done
  exit
fi
say "Linux $(uname -r), cgroups: $(cat /sys/fs/cgroup/cgroup.controllers)"
for step in $(cat /check/steps); do "step_$step"; done
say "end, $wrong wrong"
[ -e /check/stay ] || poweroff -f
