-- Distribution: a recording or livestream that so many viewers may join, each by name.

create table streams (
    id             uuid primary key,
    project_id     uuid not null references projects on delete cascade,
    -- What is distributed: one of both.
    recording_id   uuid references recordings on delete cascade,
    livestream_id  uuid references livestreams on delete cascade,
    max_viewers    integer not null check (max_viewers > 0),
    peak_viewers   integer not null default 0,
    -- Of viewers who are forgotten by now.
    past_segments  bigint not null default 0,
    past_bytes     bigint not null default 0,
    started_at     timestamptz not null default now(),
    ended_at       timestamptz,
    check (num_nonnulls(recording_id, livestream_id) = 1)
);
create unique index streams_open on streams (coalesce(recording_id, livestream_id)) where ended_at is null;
create index streams_project on streams (project_id, started_at desc);
create index streams_recording on streams (recording_id) where recording_id is not null;
create index streams_livestream on streams (livestream_id) where livestream_id is not null;

alter table viewer_sessions
    -- Who joined a stream holds a place in it until they leave, or are not heard of for a minute.
    add column stream_id uuid references streams on delete set null,
    -- The profile they play, their buffer in per cent, and the changes of the profile.
    add column bitrate text,
    add column buffer_health real,
    add column bitrate_switches jsonb,
    -- What our edges gave them.
    add column served_bytes bigint not null default 0,
    add column served_segments bigint not null default 0;
create index viewer_sessions_stream on viewer_sessions (stream_id, user_id) where stream_id is not null;
