#!/bin/sh
# The first process of a member's namespaces: gives the member its own host name, processes, files and /etc/hosts, then
# waits for ever, so that address, links and rules outlive a restart of its server.
#   $1 host name   $2 hosts file   $3 root of the stack image, or "" for members that run the project's own code
#   $4 mount point for the root    $5 folder that becomes /data   $6 folder that becomes /config   $7 tini
#   $8 folder that becomes /run/archive
set -eu
hostname "$1"
if [ -z "$3" ]; then
    mount --bind "$2" /etc/hosts
    mount -t proc proc /proc
    exec "$7" -- sleep infinity
fi
root=$4
mount --bind "$3" "$root"
mount -o remount,bind,ro,nosuid,nodev "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o size=16m tmpfs "$root/run"
mkdir "$root/run/archive"
mount --bind "$8" "$root/run/archive"
mount -t tmpfs -o size=64m tmpfs "$root/tmp"
mount -t tmpfs -o size=1m,mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount --bind "$5" "$root/data"
mount --bind "$6" "$root/config"
mount --bind "$2" "$root/etc/hosts"
cd "$root"
pivot_root . .
umount -l .
exec /usr/bin/tini-static -- sleep infinity
