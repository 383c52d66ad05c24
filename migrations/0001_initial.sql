-- The first schema. Words as in docs/ARCHITECTURE.md; every time is the database's clock.

create table projects (
    id          uuid primary key,
    name        text not null unique,
    -- Share of the fleet relative to other projects with work.
    weight      double precision not null default 1 check (weight > 0),
    created_at  timestamptz not null default now()
);

create table api_keys (
    id          uuid primary key,
    project_id  uuid not null references projects,
    name        text not null,
    -- The first characters, so that a person can tell keys apart. The key itself is only kept as a hash.
    prefix      text not null,
    hash        bytea not null unique,
    scopes      text[] not null,
    created_at  timestamptz not null default now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);
create index api_keys_project on api_keys (project_id, created_at, id);

create table profiles (
    project_id  uuid not null references projects,
    name        text not null,
    body        jsonb not null,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    primary key (project_id, name)
);

-- A source is an ordered list of objects: an upload that was interrupted arrives in pieces, and they are never copied together.
create table sources (
    id          uuid primary key,
    project_id  uuid not null references projects,
    origin      jsonb not null,
    pieces      jsonb,
    bytes       bigint,
    sha256      bytea,
    probe       jsonb,
    created_at  timestamptz not null default now(),
    stored_at   timestamptz,
    -- Nobody may refer to it any more; its objects are being swept.
    deleted_at  timestamptz
);

create table uploads (
    id          uuid primary key,
    project_id  uuid not null references projects,
    -- Null while the client defers it.
    length      bigint check (length >= 0),
    received    bigint not null default 0,
    metadata    text not null default '',
    source_id   uuid references sources,
    created_at  timestamptz not null default now(),
    touched_at  timestamptz not null default now()
);
create index uploads_source on uploads (source_id);

create table upload_pieces (
    upload_id   uuid not null references uploads on delete cascade,
    start       bigint not null,
    key         text not null,
    bytes       bigint not null check (bytes > 0),
    -- Of this piece alone; the source's digest when there is just one piece.
    sha256      bytea,
    primary key (upload_id, start)
);

create table recordings (
    id               uuid primary key,
    project_id       uuid not null references projects,
    title            text not null,
    status           text not null default 'pending'
                     check (status in ('pending', 'processing', 'playable', 'ready', 'failed')),
    access           text not null default 'private' check (access in ('private', 'project', 'public')),
    source_id        uuid references sources,
    duration_seconds double precision,
    error            jsonb,
    metadata         jsonb not null default '{}',
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    ready_at         timestamptz,
    deleted_at       timestamptz,
    -- Set once all that a deleted recording left was handed to the sweeper.
    discarded_at     timestamptz
);
-- Ids are UUIDv7: their order is the order of time.
create index recordings_project on recordings (project_id, id desc) where deleted_at is null;
create index recordings_source on recordings (source_id);
create index recordings_undiscarded on recordings (deleted_at) where deleted_at is not null and discarded_at is null;

create table jobs (
    id            uuid primary key,
    project_id    uuid not null references projects,
    recording_id  uuid references recordings,
    kind          text not null,
    status        text not null default 'queued'
                  check (status in ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    priority      smallint not null default 50 check (priority between 0 and 100),
    -- The request and the frozen recipe: later edits of a profile do not reach this job.
    spec          jsonb not null,
    metadata      jsonb not null default '{}',
    -- Tasks that have not succeeded yet. Who brings it to zero completes the job.
    pending       integer not null check (pending >= 0),
    retry_of      uuid references jobs,
    traceparent   text,
    result        jsonb,
    error         jsonb,
    run_at        timestamptz,
    created_at    timestamptz not null default now(),
    started_at    timestamptz,
    finished_at   timestamptz
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index jobs_project on jobs (project_id, id desc);
create index jobs_recording on jobs (recording_id, id desc);
create index jobs_unfinished on jobs (created_at) where status in ('queued', 'running');

create table tasks (
    id            uuid primary key,
    job_id        uuid not null references jobs,
    project_id    uuid not null,
    kind          text not null,
    spec          jsonb not null,
    status        text not null
                  check (status in ('blocked', 'ready', 'running', 'succeeded', 'failed', 'cancelled')),
    pool          text not null,
    -- What a worker must have proven, joined by '+'.
    class         text not null,
    position      integer not null default 0,
    ready_at      timestamptz not null default now(),
    -- ready_at moved earlier by priority: the claim follows this order, so that waiting tasks age without a sort.
    ready_key     timestamptz not null,
    -- Not due when it was made ready: its key is its time alone, so that the claim need not wade through what is not due.
    -- The scheduler gives it its priority when it is.
    deferred      boolean not null default false,
    blocked_by    integer not null default 0 check (blocked_by >= 0),
    unblocks      uuid[] not null default '{}',
    epoch         integer not null default 0,
    attempts      integer not null default 0,
    max_attempts  integer not null default 3,
    error         jsonb,
    result        jsonb,
    created_at    timestamptz not null default now(),
    started_at    timestamptz,
    finished_at   timestamptz
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index tasks_ready on tasks (pool, class, project_id, ready_key, id) where status = 'ready';
create index tasks_deferred on tasks (ready_at) where status = 'ready' and deferred;
create index tasks_job on tasks (job_id, position, id);

-- Who may run what until when. Narrow and short: the claim counts it per project, the heartbeat rewrites it.
create table task_leases (
    task_id     uuid primary key,
    project_id  uuid not null,
    pool        text not null,
    worker_id   uuid not null,
    epoch       integer not null,
    expires_at  timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

create table attempts (
    task_id     uuid not null references tasks on delete cascade,
    epoch       integer not null,
    attempt     integer not null,
    worker_id   uuid not null,
    started_at  timestamptz not null default now(),
    finished_at timestamptz,
    outcome     text not null default 'running'
                check (outcome in ('running', 'succeeded', 'failed', 'lost', 'released', 'cancelled')),
    command     text[],
    error       jsonb,
    log_tail    text,
    -- Objects under this prefix were written by this attempt; swept unless it was the one published.
    prefix      text not null,
    primary key (task_id, epoch)
);

-- The latest value only, so it may be lost with a crash.
create unlogged table task_progress (
    task_id     uuid primary key,
    job_id      uuid not null,
    epoch       integer not null,
    progress    real not null,
    phase       text not null,
    fps         real,
    speed       real,
    eta_seconds real,
    updated_at  timestamptz not null default clock_timestamp()
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
create index task_progress_job on task_progress (job_id);

-- What one encode or one broadcast made.
create table sets (
    id          uuid primary key,
    project_id  uuid not null references projects,
    job_id      uuid references jobs,
    created_at  timestamptz not null default now()
);
create index sets_job on sets (job_id);

create table renditions (
    set_id            uuid not null references sets on delete cascade,
    rung              text not null,
    position          integer not null,
    kind              text not null check (kind in ('video', 'audio')),
    codec             text not null,
    width             integer,
    height            integer,
    fps_num           integer,
    fps_den           integer,
    sample_rate       integer,
    channels          integer,
    language          text,
    timescale         integer not null,
    init_key          text not null,
    init_bytes        integer not null,
    peak_bandwidth    bigint not null,
    average_bandwidth bigint not null,
    duration_ticks    bigint not null,
    epoch             integer not null,
    primary key (set_id, rung)
);

-- The segment index.
create table segments (
    set_id         uuid not null references sets on delete cascade,
    rung           text not null,
    number         integer not null,
    epoch          integer not null,
    key            text not null,
    bytes          integer not null,
    duration_ticks bigint not null,
    independent    boolean not null default true,
    date           timestamptz,
    primary key (set_id, rung, number)
);

create table recording_sets (
    recording_id  uuid not null references recordings,
    set_id        uuid not null references sets,
    -- Short name of the set in segment file names.
    ordinal       integer not null,
    active        boolean not null default false,
    -- Where the static playlists lie, once the set is finished.
    static_prefix text,
    primary key (recording_id, set_id),
    unique (recording_id, ordinal)
);
create index recording_sets_set on recording_sets (set_id);

create table pictures (
    recording_id  uuid not null references recordings,
    -- What was asked for; -1 is the default time.
    at_ms         bigint not null,
    width         integer not null,
    height        integer not null,
    key           text not null,
    bytes         integer not null,
    created_at    timestamptz not null default now(),
    primary key (recording_id, at_ms, width, height)
);

-- One log feeds webhooks, SSE and the dashboard. Readers go by (xid, id) and stop at pg_snapshot_xmin: a serial number alone
-- skips what commits late.
create table events (
    xid           xid8 not null default pg_current_xact_id(),
    id            bigint generated always as identity,
    event_id      uuid not null default gen_random_uuid(),
    project_id    uuid not null,
    type          text not null,
    job_id        uuid,
    recording_id  uuid,
    data          jsonb not null,
    created_at    timestamptz not null default now(),
    primary key (xid, id)
);
create index events_job on events (job_id, xid, id) where job_id is not null;
create index events_project on events (project_id, xid, id);

create table workers (
    id            uuid primary key,
    name          text not null,
    pool          text not null,
    slots         integer not null,
    capabilities  text[] not null,
    version       text not null,
    state         text not null default 'active' check (state in ('active', 'draining', 'gone')),
    started_at    timestamptz not null default now(),
    seen_at       timestamptz not null default now()
);

create table leaders (
    name        text primary key,
    holder      uuid not null,
    epoch       bigint not null,
    expires_at  timestamptz not null
);

create table idempotency_keys (
    project_id    uuid not null references projects,
    key           text not null,
    fingerprint   bytea not null,
    -- Null while the first request is still being answered.
    status        integer,
    content_type  text,
    location      text,
    body          bytea,
    created_at    timestamptz not null default now(),
    primary key (project_id, key)
);
create index idempotency_keys_age on idempotency_keys (created_at);

-- Object prefixes that nothing refers to any more. Swept twice: a zombie may write after the first time.
create table garbage (
    id       bigint generated always as identity primary key,
    prefix   text not null,
    due_at   timestamptz not null,
    sweeps   integer not null default 0
);
create index garbage_due on garbage (due_at);
