-- Recordings that are live: a livestream whose broadcast becomes the recording, or one that plays the recording out.

create table live_recordings (
    livestream_id  uuid primary key references livestreams on delete cascade,
    recording_id   uuid not null references recordings on delete cascade,
    project_id     uuid not null references projects on delete cascade,
    source         text not null check (source in ('ingest', 'replay')),
    -- A name that a project gives to what is live.
    room_id        text,
    started_at     timestamptz not null default now(),
    -- Nobody is let in any more.
    stopped_at     timestamptz,
    -- The recording is free for another one: nothing is to come of this one any more.
    settled_at     timestamptz
);
create unique index live_recordings_open on live_recordings (recording_id) where settled_at is null;
create unique index live_recordings_room on live_recordings (project_id, room_id)
    where room_id is not null and stopped_at is null;
