-- Footage of a livestream, chosen by its time, that somebody plays.
create table playback_sessions (
    id             uuid primary key,
    project_id     uuid not null references projects,
    -- The camera.
    livestream_id  uuid not null references livestreams,
    kind           text not null check (kind in ('recorded', 'live')),
    format         text not null check (format in ('hls', 'rtsp', 'webrtc')),
    -- What was asked for; null of what is live.
    start_time     timestamptz,
    end_time       timestamptz,
    -- Exact to a frame, else to a segment.
    exact          boolean not null default false,
    -- Which segments those are: they stay the same for as long as the session lasts.
    stretches      jsonb not null default '[]',
    -- Where a media server has it, and what it is called there.
    url            text,
    path           text,
    expires_at     timestamptz not null,
    created_at     timestamptz not null default now()
);
create index playback_sessions_over on playback_sessions (expires_at);
create index playback_sessions_livestream on playback_sessions (livestream_id);

-- Footage is found by its time, also in a broadcast of months.
create index segments_time on segments (set_id, rung, start_ticks) where start_ticks is not null;
