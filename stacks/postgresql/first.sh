#!/bin/sh
# What Patroni runs once, in the first database of a tier; $1: how that is reached, without the password.
exec psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --dbname="$1" --file=/config/first.sql
