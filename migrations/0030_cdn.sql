-- The CDN in front of the farm: whether viewers are sent to it, what it has to forget, and what it is to fetch ahead.

create table cdn (
    -- There is one CDN, and one row.
    only_row    boolean primary key default true check (only_row),
    enabled     boolean not null,
    updated_at  timestamptz not null default now()
);

-- What it has to forget. A row goes once the CDN has been told twice.
create table cdn_purges (
    id             bigint generated always as identity primary key,
    surrogate_key  text not null,
    -- To be told once more, when no api gives out any more what it knew before.
    again          boolean not null default true,
    attempts       integer not null default 0,
    due_at         timestamptz not null default now(),
    created_at     timestamptz not null default now()
);
create index cdn_purges_due on cdn_purges (due_at);

-- Recordings that have something new to be fetched ahead.
create table cdn_warmings (
    recording_id  uuid primary key references recordings on delete cascade,
    due_at        timestamptz not null
);
create index cdn_warmings_due on cdn_warmings (due_at);

alter table livestream_figures
    -- Segments and parts that were asked of an edge, and how many of them it had.
    add column media_requests integer,
    add column media_hits     integer;

-- The same of all that a project has, a day (UTC).
create table distribution_days (
    project_id      uuid not null references projects on delete cascade,
    day             date not null,
    media_requests  bigint not null,
    media_hits      bigint not null,
    primary key (project_id, day)
);
