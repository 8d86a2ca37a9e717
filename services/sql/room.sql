-- One room of a collaboration, as `lua/room.lua` has it in Redis: number and store an edit, or read what a member missed.
--
-- Positions (epoch, seq) are never given twice. seq counts on through epochs; a new epoch begins whenever the log may
-- have lost its tail: PostgreSQL is on another timeline than the one that numbered last (every failover), the room is
-- new (its epoch then is the time, so that it lies above every one before a total loss), or somebody has seen more than
-- is stored. Edits of a room are numbered one after the other: who numbers holds the room's lock until its commit.

CREATE TABLE IF NOT EXISTS room_epochs (
    room text,
    epoch bigint,
    base bigint NOT NULL,  -- the seq at which it began
    owner text NOT NULL,  -- the timeline
    PRIMARY KEY (room, epoch));
CREATE TABLE IF NOT EXISTS room_edits (
    room text,
    seq bigint,
    epoch bigint NOT NULL,
    edit text NOT NULL,  -- as a JSON string: a text of PostgreSQL's cannot hold every character
    written_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,  -- when RabbitMQ had confirmed its event; not where edits travel by Redis
    PRIMARY KEY (room, seq));
CREATE UNIQUE INDEX IF NOT EXISTS room_edits_once ON room_edits (room, md5(edit));

-- seen_…: the highest position that anybody who asks has seen; from_…: read what follows this position (-1 -1 each:
-- none, and only the head); new_edit: as a JSON string ('': none). resume_… is -1 -1, or the position at which `from`
-- has to take up again, because what it has beyond that was rolled back.
CREATE OR REPLACE FUNCTION room(
    of_room text, seen_epoch bigint, seen_seq bigint, from_epoch bigint, from_seq bigint, rows_max bigint,
    new_edit text,
    OUT head_epoch bigint, OUT head_seq bigint, OUT head_base bigint, OUT resume_epoch bigint, OUT resume_seq bigint,
    OUT rows text[], OUT edit_epoch bigint, OUT edit_seq bigint)
LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    me text := substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8);
    head_owner text;
    numbers boolean := new_edit <> '';
BEGIN
    IF numbers THEN PERFORM pg_advisory_xact_lock(18, hashtext(of_room)); END IF;
    LOOP
        SELECT e.epoch, e.base, e.owner, greatest(e.base, (SELECT max(r.seq) FROM room_edits r WHERE r.room = of_room))
            INTO head_epoch, head_base, head_owner, head_seq
            FROM room_epochs e WHERE e.room = of_room ORDER BY e.epoch DESC LIMIT 1;
        EXIT WHEN head_owner = me AND (head_epoch, head_seq) >= (seen_epoch, seen_seq);
        IF numbers THEN
            head_epoch := greatest(coalesce(head_epoch, extract(epoch FROM now())::bigint - 1), seen_epoch) + 1;
            head_seq := coalesce(head_seq, 0);
            head_base := head_seq;
            INSERT INTO room_epochs VALUES (of_room, head_epoch, head_base, me);
            EXIT;
        END IF;
        PERFORM pg_advisory_xact_lock(18, hashtext(of_room));
        numbers := true;  -- and look again: somebody else may have begun the epoch meanwhile
    END LOOP;

    edit_epoch := -1;
    edit_seq := -1;
    IF new_edit <> '' THEN
        -- one that is there is written again, so that its commit waits for standbys once more
        UPDATE room_edits r SET edit = r.edit WHERE r.room = of_room AND md5(r.edit) = md5(new_edit)
            RETURNING r.epoch, r.seq INTO edit_epoch, edit_seq;
        IF NOT FOUND THEN
            head_seq := head_seq + 1;
            edit_epoch := head_epoch;
            edit_seq := head_seq;
            INSERT INTO room_edits (room, seq, epoch, edit) VALUES (of_room, edit_seq, edit_epoch, new_edit);
        END IF;
    END IF;

    rows := '{}';
    IF from_epoch >= 0 THEN
        SELECT e.epoch, e.base INTO resume_epoch, resume_seq FROM room_epochs e
            WHERE e.room = of_room AND e.epoch > from_epoch AND e.base < from_seq ORDER BY e.base, e.epoch LIMIT 1;
        SELECT coalesce(array_agg(format('[%s,%s,%s]', f.epoch, f.seq, f.edit) ORDER BY f.seq), '{}') INTO rows
            FROM (SELECT r.epoch, r.seq, r.edit FROM room_edits r
                  WHERE r.room = of_room AND r.seq > coalesce(resume_seq, from_seq) AND r.seq <= head_seq
                  ORDER BY r.seq LIMIT rows_max) f;
    END IF;
    resume_epoch := coalesce(resume_epoch, -1);
    resume_seq := coalesce(resume_seq, -1);
END $$;
