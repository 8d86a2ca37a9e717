#!/bin/sh
# What a PostgreSQL member runs: it makes the member's data if there is none, then becomes the server.
#   $1 the member that is primary when the tier is formed   $2 … all other members
#
#   no data     the primary as formed: a new database, once. Everybody else, and the primary whose data was lost later:
#               a copy of whoever is primary now; it waits until there is one.
#   a standby   stays a standby, of whoever is primary now if one answers, else of whom it followed before; but where a
#               later timeline than its own is known of, whoever it followed may have been left: it waits for the primary.
#   a primary   comes back as what it was. One that does not know that another has been promoted, since that does not
#               answer, is a second primary then: nobody here can tell it. But one that was fenced waits for the other.
#   either      if another has been promoted meanwhile (it answers, on a higher timeline): it goes back to where the two
#               parted (pg_rewind) and follows the other; where it cannot go back it is copied again.
#
# Nobody is taken for the primary who takes writes on an earlier timeline than is known of here: by this member's own
# data, from all others that answer, or from the archive. He was promoted behind everybody's back, or left behind.
#
# The server refuses to run as root: in a user namespace of its own root is called postgres. Whatever is made is made
# beside its place and moved there when it is whole, so that it can be broken off at any point.
set -eu
if [ "$(id -u)" = 0 ]; then
    exec unshare --user --map-user="$(id -u postgres)" --map-group="$(id -g postgres)" -- sh "$0" "$@"
fi

first=$1
name=$(uname -n)
slot=$(printf %s "$name" | tr - _)
data=/data/postgresql
beside=/data/made
settings=/config/postgresql.conf
formed=/config/formed      # this member has had a database: an empty folder is a loss from now on
fenced=$data/fenced        # it is a primary no more: somebody has promoted another, or is about to
archive=/config/archive.sh # leads to the archive of the log, where each timeline's beginning is told
rewinding=/data/rewinding  # what is there was being changed when that was broken off
came_by="its own data"     # how this start has come by what the server is started with; the server tells whoever asks
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
export PATH PGPASSFILE=/config/pgpass PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=2
umask 077

say() { echo "start: $*" >&2; }

ask() { psql --host="$1" --no-psqlrc --no-align --tuples-only --command="$2" 2>/dev/null; }

# "TIMELINE primary MEMBER" or "TIMELINE standby MEMBER" of each other member that answers.
others_say() {
    for other in $others; do
        said=$(ask "$other" "SELECT CASE WHEN pg_is_in_recovery() THEN greatest(
            (pg_control_checkpoint()).timeline_id, (pg_control_recovery()).min_recovery_end_timeline,
            (SELECT received_tli FROM pg_stat_wal_receiver)) || ' standby'
            ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int || ' primary' END") || continue
        [ -z "$said" ] || echo "$said $other"
    done
}

own_timeline() {
    pg_controldata -D "$data" | sed -n "s/^\(Latest checkpoint's TimeLineID\|Min recovery ending loc's timeline\): *//p" |
        sort -n | tail -n 1
}

# The latest timeline that is known of: by this member's data, from the archive, and from what others say ($1).
# Who cannot ask the archive may not know of a later one, so he asks again.
latest() {
    until histories=$(sh "$archive" histories); do sleep 0.2; done
    {
        echo "$1"
        [ ! -s "$data/PG_VERSION" ] || own_timeline
        for history in $histories; do
            printf '%d\n' "0x${history%.history}"
        done
    } | sed 's/ .*//' | sort -n | tail -n 1
}

# "TIMELINE MEMBER" of the one other member that takes writes on the latest timeline; nothing if none answers.
primary() {
    told=$(others_say)
    least=$(latest "$told")
    writers=$(echo "$told" | while read -r timeline role member; do
        if [ "$role" = primary ] && [ "$timeline" -ge "$least" ]; then echo "$timeline $member"; fi
    done)
    if [ "$(echo "$writers" | wc -l)" -eq 1 ]; then echo "$writers"; fi
}

# From now on $1 keeps what this member has not received yet. A slot that it has given up would keep nothing.
keep() {
    ask "$1" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE slot_name = '$slot' AND wal_status = 'lost'" >/dev/null
    ask "$1" "SELECT pg_create_physical_replication_slot('$slot', true)
        WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$slot')" >/dev/null
}

# The database in the folder $2 is a standby of $1 from its next start on; $3: how it has come by that.
follow() {
    conninfo="host=$1 user=replicator passfile=$PGPASSFILE application_name=$name connect_timeout=2"
    echo "primary_conninfo = '$conninfo'" >"$2/postgresql.auto.conf"
    : >"$2/standby.signal"
    rm -f "$2/fenced"
    came_by=$3
    say "follows $1, by $came_by"
}

new() {
    came_by="a new database"
    say "$came_by"
    initdb --pgdata="$beside" --username=postgres --pwfile=/config/password --auth=scram-sha-256 --data-checksums \
        --encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8 --no-sync --no-instructions >/dev/null
    # a statement that fails is not logged: it may hold the password
    postgres --single -D "$beside" -c config_file="$settings" -c archive_mode=off -c synchronous_standby_names= \
        -c log_min_error_statement=panic postgres </config/first.sql >/dev/null
    mv "$beside" "$data"
}

copy() {
    say "a copy of $1"
    rm -rf "$beside"
    keep "$1" || return
    pg_basebackup --host="$1" --username=replicator --pgdata="$beside" --slot="$slot" --wal-method=stream \
        --checkpoint=fast --no-sync || return
    follow "$1" "$beside" "a copy"
    rm -rf "$data"
    mv "$beside" "$data"
    rm -f "$rewinding"
}

copy_somebody() {
    say "waiting for a primary to copy"
    until found=$(primary) && [ -n "$found" ] && copy "${found#* }"; do sleep 0.2; done
}

# The files of $1's log that it has no more, from the position $2 on: of each segment the one on the last timeline that has
# a part of it, of the timelines that lead to $1's. Only that one is true: another may hold what was written astray.
gone() {
    ask "$1" "WITH size AS (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS bytes),
        now AS (SELECT pg_current_wal_lsn() AS position, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline),
        past AS (SELECT split_part(line, E'\t', 1)::int AS timeline,
                div(split_part(line, E'\t', 2)::pg_lsn - '0/0', bytes) AS ends_in
            FROM size, now, string_to_table(pg_read_file('pg_wal/' || timeline || '.history'), E'\n') AS line
            WHERE line ~ '^[0-9]+\t')
        SELECT coalesce((SELECT upper(lpad(to_hex(min(past.timeline)), 8, '0')) FROM past WHERE segment < ends_in),
                timeline) || substr(pg_walfile_name('0/1'::pg_lsn + segment * bytes), 9)
            FROM size, now, generate_series(div('$2'::pg_lsn - '0/0', bytes), div(position - '0/0', bytes)) AS segment
        EXCEPT SELECT name FROM pg_ls_waldir() ORDER BY 1"
}

# Fetches from the archive what this member has to replay after it has gone back, and neither it nor $1 has. pg_rewind
# leaves it what it had since the last common checkpoint was complete, but it replays from where that began; and $1 may
# have written more since they parted than it keeps. Fails where a part of that is nowhere.
fetch() {
    label=$data/backup_label  # where it begins, if it had anything to go back from
    if [ -e "$label" ]; then
        begin=$(sed -n 's/^START WAL LOCATION: \([^ ]*\) .*/\1/p' "$label")
    else
        begin=$(pg_controldata -D "$data" | sed -n "s/^Latest checkpoint's REDO location: *//p")
    fi
    files=$(gone "$1" "$begin") || return
    for file in $files; do
        # without a label the last of its own is not whole
        if [ ! -e "$label" ] || [ ! -e "$data/pg_wal/$file" ]; then
            say "fetching $file"
            sh "$archive" get "$file" "$data/pg_wal/$file" || return
        fi
    done
}

# What this member does that finds a primary on a higher timeline than its own. That one keeps its log from before the
# checkpoint on, which makes its control file tell of its timeline, and lets this one be consistent at once.
# A standby that was killed cannot go back: pg_rewind would have it recover in single-user mode, which refuses a standby;
# and as anything else it would write to its log where it may only have been behind.
rejoin() {
    say "$1 has been promoted: going back to where it parted from this member"
    : >"$rewinding"
    keep "$1" || say "$1 keeps nothing for this member"
    ask "$1" CHECKPOINT >/dev/null || say "$1 makes no checkpoint"
    echo "restore_command = 'sh $archive get \"%f\" \"%p\"'" >>"$data/postgresql.auto.conf"
    if pg_rewind --target-pgdata="$data" --source-server="host=$1 user=postgres dbname=postgres" \
        --config-file="$settings" --restore-target-wal --no-sync && fetch "$1"; then
        follow "$1" "$data" pg_rewind
        rm -f "$rewinding"
    else
        say "that cannot be done"
        copy_somebody
    fi
}

shift
others=$*
rm -rf "$beside"
if [ -e "$rewinding" ]; then
    copy_somebody
elif [ -s "$data/PG_VERSION" ]; then
    found=$(primary)
    if [ -e "$fenced" ]; then
        say "fenced: waiting for the primary on a higher timeline"
        until [ -n "$found" ] && [ "${found% *}" -gt "$(own_timeline)" ]; do sleep 0.2 && found=$(primary); done
    elif [ -e "$data/standby.signal" ] && [ -z "$found" ] && [ "$(latest "$(others_say)")" -gt "$(own_timeline)" ]; then
        say "a later timeline is known of: waiting for its primary"
        until found=$(primary) && [ -n "$found" ]; do sleep 0.2; done
    fi
    if [ -n "$found" ] && [ "${found% *}" -gt "$(own_timeline)" ]; then
        rejoin "${found#* }"
    elif [ -n "$found" ] && [ -e "$data/standby.signal" ] && keep "${found#* }"; then
        follow "${found#* }" "$data" "its own data"
    fi
elif [ "$name" = "$first" ] && [ ! -e "$formed" ]; then
    new
else
    copy_somebody
fi
: >"$formed"
exec postgres -D "$data" -c config_file="$settings" -c harmonyflow.came_by="$came_by"
