#!/bin/sh
# What a PostgreSQL member runs where Patroni promotes by itself: Patroni, which makes, starts and ends the server.
#   $1 the member that is primary when the tier is formed   $2 … all other members
#
# Any of them could form the tier, if it came first. So the others wait until somebody is primary, if they have no data.
# The server refuses to run as root: in a user namespace of its own root is called postgres.
set -eu
name=$(uname -n)
if [ "$name" != "$1" ] && [ ! -s /data/postgresql/PG_VERSION ]; then
    /usr/bin/python3 /config/primary.py wait "$@"
fi
# Patroni's locks are there, without which it could not ask the others and would never promote.
mountpoint -q /dev/shm || { mkdir -p /dev/shm && mount -t tmpfs -o size=16m,mode=1777 tmpfs /dev/shm; }
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
export PATH
umask 077
exec unshare --user --map-user="$(id -u postgres)" --map-group="$(id -g postgres)" -- /usr/bin/patroni /config/patroni.yml
