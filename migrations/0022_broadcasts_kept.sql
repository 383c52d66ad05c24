-- How long what was on air is kept, and what of it is left out of its recording.

alter table broadcasts
    -- Somebody watches it with a token that lasts until then: its age does not take it before.
    add column kept_until timestamptz,
    -- A picture of it, in the store.
    add column thumbnail_key text;
-- Those of which only the live window is kept, until that is gone, too.
create index broadcasts_fleeting on broadcasts (id) where not recorded and status <> 'expired';
create index broadcasts_age on broadcasts (project_id, ended_at)
    where recorded and status in ('available', 'converted', 'failed');

create index broadcasts_converting on broadcasts (recording_id) where status = 'converting';

-- Spans of a broadcast that were published while its recording was paused.
create table broadcast_pauses (
    broadcast_id  uuid not null references broadcasts on delete cascade,
    first_number  integer not null,
    -- The first one that is recorded again; null while it is paused.
    until_number  integer,
    -- Its segments are gone.
    swept         boolean not null default false,
    primary key (broadcast_id, first_number)
);
create index broadcast_pauses_left on broadcast_pauses (broadcast_id) where not swept;
