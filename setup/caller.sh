# shellcheck shell=bash
# Whose machine this is: under sudo, caches and files are made by, and belong to, the user who typed the command.

# shellcheck disable=SC2034  # elsewhere and cache are read by those who source this
if [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ]; then
  HOME=$(getent passwd "$SUDO_UID" | cut -d: -f6)
  export HOME
  unset XDG_CACHE_HOME  # it may be root's own
  elsewhere="make it a link to another place"
  as_caller() { setpriv --reuid "$SUDO_UID" --regid "$SUDO_GID" --init-groups -- "$@"; }
  give_back() { find "$@" -xdev -uid 0 -exec chown -h "$SUDO_UID:$SUDO_GID" {} +; }
else
  elsewhere="name another place by XDG_CACHE_HOME"
  as_caller() { "$@"; }
  give_back() { :; }
fi

[ -n "${HOME:-}" ] || fail "HOME is not set: set it to a folder of yours, e.g. HOME=/home/you make …"
# shellcheck disable=SC2034
cache=${XDG_CACHE_HOME:-$HOME/.cache}/harmonyflow
