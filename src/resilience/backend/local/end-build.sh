#!/bin/sh
# Waits for the end of its input: whoever holds the other end has come to its own end then, or was killed. Ends the
# process group that is the last line of it ("": none) and removes a build's folders; why one could not be removed stands
# on standard error, and the exit code is 1.
#   $@ folders
trap '' HUP INT TERM
group=$(tail -n 1)
cd /
[ -z "$group" ] || kill -s KILL -- "-$group" 2>/dev/null
tries=10  # what was killed may write for a moment yet
until rm -rf -- "$@" 2>/dev/null || [ "$tries" = 0 ]; do
    # an ordinary user's builder works under subordinate user ids: only their root can remove what they have made
    find "$@" ! -user "$(id -u)" -prune -exec mmdebstrap --unshare-helper rm -rf -- {} + >/dev/null 2>&1
    sleep 0.2
    tries=$((tries - 1))
done
[ "$tries" != 0 ] || rm -rf -- "$@"
