#!/bin/bash
# The same where the archive is a store that is asked over HTTP (src/resilience/backend/kubernetes/wal_archive.py), with
# nothing but what every Debian has.
#   put FILE NAME    keeps a copy; the same again is no error, another under that name is one
#   get NAME FILE    copies it here, whole or not at all
#   histories        the names of what tells of timelines' beginnings
[ -n "${BASH_VERSION:-}" ] || exec timeout 60 bash "$0" "$@"
set -euo pipefail
host='{{ host }}' port='{{ port }}'

ask() { # METHOD NAME LENGTH
    exec 3<>"/dev/tcp/$host/$port"
    printf '%s /%s HTTP/1.0\r\nContent-Length: %s\r\n\r\n' "$1" "$2" "$3" >&3
}

answered() { # leaves what comes after the head to be read, and its length in $length
    local name value status
    read -r _ status _ <&3
    while IFS=$': \r' read -r name value <&3 && [ -n "$name" ]; do
        [ "${name,,}" != content-length ] || length=$value
    done
    [ "$status" = 200 ]
}

case $1 in
put)
    ask PUT "$3" "$(stat -c %s "$2")"
    cat "$2" >&3
    answered
    ;;
get)
    ask GET "$2" 0
    answered
    cat <&3 >"$3.part"
    [ "$(stat -c %s "$3.part")" = "$length" ]
    mv "$3.part" "$3"
    ;;
histories)
    ask GET '' 0
    answered
    cat <&3
    ;;
esac
