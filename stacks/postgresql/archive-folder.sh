#!/bin/sh
# The archive of the log as members have it: here a folder that all of them see, which stands for an object store.
#   put FILE NAME    keeps a copy; the same again is no error, another under that name is one
#   get NAME FILE    copies it here
#   histories        the names of what tells of timelines' beginnings
set -eu
archive=/run/archive
case $1 in
put)
    cmp -s "$2" "$archive/$3" || {
        test ! -e "$archive/$3"
        cp "$2" "$archive/.$3.$(uname -n)"
        mv "$archive/.$3.$(uname -n)" "$archive/$3"
    }
    ;;
get) cp "$archive/$2" "$3" ;;
histories) find "$archive" -name '[0-9A-F]*.history' -printf '%f\n' ;;
esac
