# shellcheck shell=bash
# What people see while the set-up works: one line a step, with the time it takes; addresses are never shown.

say() { printf 'setup: %s\n' "$*" >&2; }

# The set-up could not do its work: one line that says what to do.
fail() {
  say "$*"
  exit 4
}

# Replaces every address in standard input, so that nobody's package index ends up in a log.
masked() { sed -E "s#[A-Za-z][A-Za-z+.-]*://[^][:space:]\"'\`<>()]+#(address)#g; s#(host=|host )['\"]?[A-Za-z0-9.-]+['\"]?#\1(address)#g"; }

# Says every ten seconds (on a terminal: every second) how long a step has been running; ends with the script.
_tick() {
  local title=$1 began=$SECONDS every=10
  if [ -t 2 ]; then every=1; fi
  while sleep 1 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    if [ $(((SECONDS - began) % every)) -ne 0 ]; then continue; fi
    if [ -t 2 ]; then
      printf '\r\033[Ksetup: %s … %d s' "$title" $((SECONDS - began)) >&2
    else
      say "$title … $((SECONDS - began)) s"
    fi
  done
}

# step TITLE COMMAND…: runs a command; its output is shown only if it fails, and then it returns the command's code.
step() {
  local title=$1 began=$SECONDS status=0 log ticker
  shift
  log=$(mktemp)
  say "$title"
  _tick "$title" 9>&- & # 9: the lock of the caller's, if any
  ticker=$!
  # shellcheck disable=SC2064  # the values of now are meant
  trap "kill $ticker 2>/dev/null; rm -f '$log'" EXIT
  "$@" </dev/null >"$log" 2>&1 || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
  if [ "$status" -ne 0 ]; then
    masked <"$log" | tail -n 15 >&2
  elif [ $((SECONDS - began)) -ge 2 ]; then
    say "$title: done in $((SECONDS - began)) s"
  fi
  rm -f "$log"
  trap - EXIT
  return "$status"
}
