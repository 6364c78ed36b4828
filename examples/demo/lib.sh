# What the demos share: how commands and answers are shown, and the end. A demo
# sets LAZ, LAZ_HOME and HOME first.
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' blue=$'\e[34m' green=$'\e[32m' red=$'\e[31m' off=$'\e[0m'
else
  bold='' dim='' blue='' green='' red='' off=''
fi
started=${EPOCHREALTIME/[.,]/}
chapter() { printf '\n%s%s%s\n' "$bold" "$1" "$off"; }
note() { printf '  %s%s%s\n' "$dim" "$1" "$off"; }
# typed prints a command as it is typed.
typed() { sed "1s/^/  $blue\$$off /; 1!s/^/    /" <<<"$1"; }
# show COMMAND [QUERY] [REALLY] types a command and runs it (or what stands for
# it), with QUERY picking what is shown of its answer.
show() {
  typed "$1"
  eval "${3:-$1} ${2:+--query \"$2\" --output tsv}" >"$LAZ_HOME/demo.out" 2>&1 || { cat "$LAZ_HOME/demo.out"; return 1; }
  sed "s/^/    $green→$off $dim/; s/\$/$off/" "$LAZ_HOME/demo.out"
}
# keep types an export and shows the value.
keep() {
  typed "export $1=\"\$($2)\""
  eval "export $1=\"\$($2)\""
  printf '    %s→%s %s%s%s\n' "$green" "$off" "$dim" "${!1}" "$off"
}

services=() # processes that end with the demo
stop() {
  local status=$?
  if [ "$status" -ne 0 ]; then
    printf '\n%sThe demo stopped (exit %d). The end of the log:%s\n' "$red" "$status" "$off"
    tail -n 5 "$LAZ_HOME/log/laz.log" 2>/dev/null || true
  fi
  [ ${#services[@]} -eq 0 ] || kill "${services[@]}" 2>/dev/null || true
  "$LAZ" down --purge --yes >/dev/null 2>&1 || true
  rm -rf "$HOME"
  exit "$status"
}
trap stop EXIT
