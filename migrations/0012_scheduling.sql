-- Limits: at most so many tasks of a project at once; null is no limit. A lease of a limited project takes one of that many places,
-- so that claims that race for the last one cannot both have it.
alter table projects add column max_running integer check (max_running > 0);
alter table projects add column updated_at timestamptz not null default now();
alter table task_leases add column place integer;
create unique index task_leases_place on task_leases (project_id, place) where place is not null;

create index jobs_retry on jobs (retry_of) where retry_of is not null;

-- What a person said about a pool. Those that nobody said anything about have no row.
create table pools (
    name       text primary key,
    paused_at  timestamptz
);

-- Why a worker gets nothing: somebody asked it to drain, or it fails what others finish.
alter table workers add column drain_at timestamptz;
alter table workers add column quarantined_at timestamptz;
alter table workers add column quarantine_reason text;
-- What it failed before does not count any more.
alter table workers add column trusted_at timestamptz;
create index attempts_worker on attempts (worker_id, finished_at) where outcome = 'succeeded';
create index attempts_failed on attempts (finished_at) where outcome in ('failed', 'lost');

-- Who failed a task last: somebody else should try it.
alter table tasks add column avoid_worker uuid;
