-- Segments that somebody asked to be sent: to a viewer who joined a stream, or ahead to a CDN.

create table segment_deliveries (
    id               uuid primary key,
    project_id       uuid not null references projects on delete cascade,
    stream_id        uuid not null references streams on delete cascade,
    -- Who gets it, by the name they joined by; null for a CDN.
    viewer           text,
    -- A file name of the stream.
    segment          text not null,
    -- More goes first.
    priority         smallint not null,
    status           text not null default 'queued' check (status in ('queued', 'delivering', 'delivered', 'failed')),
    attempts         integer not null default 0,
    max_attempts     integer not null,
    timeout_seconds  real not null,
    -- What was wrong the last time.
    error            text,
    ready_at         timestamptz not null default now(),
    -- Until when whoever claimed it must have said what came of it.
    leased_until     timestamptz,
    -- Nobody wants it later.
    expires_at       timestamptz not null,
    created_at       timestamptz not null default now(),
    finished_at      timestamptz
);
create index segment_deliveries_due on segment_deliveries (priority desc, ready_at, id) where finished_at is null;
create index segment_deliveries_stream on segment_deliveries (stream_id, finished_at);
create index segment_deliveries_recent on segment_deliveries (project_id, finished_at) where finished_at is not null;
create index segment_deliveries_old on segment_deliveries (finished_at) where finished_at is not null;

alter table streams
    -- All there ever were: the rows themselves are forgotten.
    add column delivery_failures bigint not null default 0;
