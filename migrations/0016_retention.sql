-- What a project says of ages. The farm's settings say the rest.
alter table projects add column retention jsonb not null default '{}';

-- A job that is over was looked at for the ages of what it leaves. What its profile says of them stands in the columns `..._until`,
-- where null means that the project's age counts, and infinity means for ever.
alter table jobs
    add column settled         boolean not null default false,
    add column keep_until      timestamptz,
    add column logs_until      timestamptz,
    add column logs_deleted_at timestamptz,
    -- Nobody sees it any more. The row is there for as long as something refers to what its tasks made.
    add column hidden_at       timestamptz;
create index jobs_unsettled on jobs (finished_at) where finished_at is not null and not settled;
create index jobs_kept on jobs (project_id, finished_at) where settled and hidden_at is null and keep_until is null;
create index jobs_keep_until on jobs (project_id, keep_until) where hidden_at is null and keep_until is not null;
create index jobs_visible on jobs (project_id, id desc) where hidden_at is null;
-- Those that only look into a source.
create index jobs_looking on jobs ((spec ->> 'source')) where recording_id is null and finished_at is null;
create index jobs_logs on jobs (project_id, finished_at) where settled and logs_deleted_at is null and logs_until is null;
create index jobs_logs_until on jobs (project_id, logs_until) where logs_deleted_at is null and logs_until is not null;

alter table recordings
    -- When it was last encoded, well or not.
    add column settled_at    timestamptz,
    add column outputs_until timestamptz,
    -- Somebody has a token to watch it until then: its age does not delete it before.
    add column kept_until    timestamptz;
create index recordings_settled on recordings (project_id, settled_at) where deleted_at is null and outputs_until is null;
create index recordings_until on recordings (project_id, outputs_until) where deleted_at is null and outputs_until is not null;
create index recordings_discarded on recordings (id) where discarded_at is not null;

alter table sources
    -- When something was last made of it.
    add column settled_at timestamptz,
    add column keep_until timestamptz;
create index sources_settled on sources (project_id, settled_at) where deleted_at is null and keep_until is null;
create index sources_until on sources (project_id, keep_until) where deleted_at is null and keep_until is not null;
create index sources_unused on sources (deleted_at) where deleted_at is not null and settled_at is null;
create index sources_remux on sources (remux_of) where remux_of is not null;

create index deliveries_finished on deliveries (webhook_id, finished_at) where finished_at is not null;
