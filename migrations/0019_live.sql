-- Channels, the times they were on air, and who holds them.

create table livestreams (
    id             uuid primary key,
    project_id     uuid not null references projects,
    title          text not null,
    description    text,
    user_id        text,
    status         text not null default 'idle'
                   check (status in ('idle', 'starting', 'live', 'reconnecting', 'failed')),
    -- What was asked for, without secrets: a broadcast takes a copy of it when it begins.
    spec           jsonb not null,
    -- Where a pull comes from, with its credentials; sealed. Null where publishers push.
    source         bytea,
    metadata       jsonb not null default '{}',
    -- The stream key: to be found by, and to be shown.
    key_hash       bytea not null unique,
    key_sealed     bytea not null,
    -- Raised by whoever takes the stream. It only grows: what an older holder does late is not heard.
    epoch          integer not null default 0,
    -- Media sequence numbers below it were given out; those that a lost worker did not use become gaps.
    next_sequence  bigint not null default 1,
    -- What is on air now.
    broadcast_id   uuid,
    -- Somebody asked for it to run: a pull is fetched, and a stream with require_start lets its publisher in.
    armed_at       timestamptz,
    -- Of a pull that failed: not before this.
    retry_at       timestamptz,
    failures       integer not null default 0,
    error          jsonb,
    recording_paused_at timestamptz,
    started_at     timestamptz,
    ended_at       timestamptz,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now(),
    deleted_at     timestamptz
);
create index livestreams_project on livestreams (project_id, id desc) where deleted_at is null;
-- What the supervisor looks at: never more than are on air or wanted there.
create index livestreams_busy on livestreams (status) where status <> 'idle' or armed_at is not null;

-- Who carries a stream until when. Narrow and short-lived: the beat rewrites it every other second.
create table live_leases (
    livestream_id  uuid primary key references livestreams,
    project_id     uuid not null,
    worker_id      uuid not null,
    epoch          integer not null,
    -- Where edges reach the origin, and what they show there to be let in.
    origin         text not null,
    pass           text not null,
    expires_at     timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

create table broadcasts (
    id              uuid primary key,
    livestream_id   uuid not null references livestreams,
    project_id      uuid not null references projects,
    -- Its segments. They go with the broadcast, unless a recording was made of it.
    set_id          uuid not null references sets,
    status          text not null default 'recording'
                    check (status in ('recording', 'finalizing', 'available', 'converting', 'converted', 'expired', 'failed')),
    -- Rungs, rates and lengths of parts, frozen when it began: they never change while a playlist lives.
    plan            jsonb not null,
    -- The moment of tick zero of every rendition.
    started_at      timestamptz not null,
    -- The last moment something was published.
    heard_at        timestamptz not null default now(),
    ended_at        timestamptz,
    end_reason      text,
    -- Kept when it is over; else only the live window is.
    recorded        boolean not null,
    duration_seconds double precision,
    bytes           bigint not null default 0,
    recording_id    uuid references recordings,
    retention_until timestamptz,
    created_at      timestamptz not null default now()
);
create index broadcasts_livestream on broadcasts (livestream_id, id desc);
create index broadcasts_set on broadcasts (set_id);
create index broadcasts_finalizing on broadcasts (ended_at) where status = 'finalizing';
create index broadcasts_over on broadcasts (retention_until) where retention_until is not null;
alter table livestreams add constraint livestreams_broadcast foreign key (broadcast_id) references broadcasts;

-- One uninterrupted stretch of a broadcast: one publisher, one FFmpeg. Its first segment follows a discontinuity.
create table broadcast_runs (
    broadcast_id  uuid not null references broadcasts on delete cascade,
    epoch         integer not null,
    first_number  integer not null,
    worker_id     uuid not null,
    publisher     text,
    -- Where the init segment of each rendition lies.
    inits         jsonb not null,
    created_at    timestamptz not null default now(),
    primary key (broadcast_id, epoch)
);

-- Of segments of a broadcast: where they begin on its timeline, since there may be holes.
alter table segments
    add column start_ticks bigint,
    -- Nobody has these bytes: they were lost with their worker.
    add column gap boolean not null default false;

-- What happened to a livestream, for who runs it.
create table livestream_events (
    id             uuid primary key,
    livestream_id  uuid not null references livestreams,
    broadcast_id   uuid,
    type           text not null,
    severity       text not null check (severity in ('info', 'warning', 'error', 'critical')),
    message        text not null,
    details        jsonb not null default '{}',
    created_at     timestamptz not null default now()
);
create index livestream_events_of on livestream_events (livestream_id, id desc);
create index livestream_events_age on livestream_events (created_at);

-- What was measured of a stream on air, every few seconds. Null is: nobody measured it.
create table livestream_figures (
    livestream_id      uuid not null references livestreams,
    at                 timestamptz not null,
    viewer_count       integer,
    bandwidth_usage    bigint,
    ingest_bitrate     bigint,
    dropped_frames     integer,
    keyframe_interval  real,
    audio_video_sync   real,
    buffer_health      real,
    cdn_hit_ratio      real,
    average_latency    real,
    p95_latency        real,
    error_count        integer,
    quality_score      real,
    speed              real,
    primary key (livestream_id, at)
);
create index livestream_figures_age on livestream_figures (at);

-- One player playing, of whatever.
create table viewer_sessions (
    id               text not null,
    project_id       uuid not null references projects,
    livestream_id    uuid references livestreams,
    recording_id     uuid references recordings,
    user_id          text,
    resolution       text,
    device_type      text,
    location         text,
    ip_address       text,
    user_agent       text,
    buffer_events    integer not null default 0,
    quality_changes  integer not null default 0,
    joined_at        timestamptz not null default now(),
    seen_at          timestamptz not null default now(),
    left_at          timestamptz,
    primary key (project_id, id)
);
create index viewer_sessions_livestream on viewer_sessions (livestream_id, joined_at desc) where livestream_id is not null;
create index viewer_sessions_watching on viewer_sessions (livestream_id, seen_at) where left_at is null;
create index viewer_sessions_age on viewer_sessions (seen_at);

alter table events add column livestream_id uuid;
create index events_livestream on events (livestream_id, xid, id) where livestream_id is not null;
