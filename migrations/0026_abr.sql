-- What is known of players whose quality the farm chooses: one row a session, soft state that is asked for and written every few seconds.
-- Unlogged: after a crash of the database each begins anew. No index on what every write changes, so that a write touches the row alone.
create unlogged table abr_sessions (
    project_id     uuid not null references projects on delete cascade,
    -- Of what is watched, which is one of both.
    recording_id   uuid references recordings on delete cascade,
    livestream_id  uuid references livestreams on delete cascade,
    -- As the player calls it; two that watch different things may call theirs alike.
    id             text not null,
    state          jsonb not null default '{}',
    began_at       timestamptz not null default now(),
    seen_at        timestamptz not null default now(),
    check (num_nonnulls(recording_id, livestream_id) = 1)
) with (fillfactor = 50);
create unique index abr_sessions_key on abr_sessions (project_id, id, coalesce(recording_id, livestream_id));
create index abr_sessions_recording on abr_sessions (recording_id) where recording_id is not null;
create index abr_sessions_livestream on abr_sessions (livestream_id) where livestream_id is not null;

-- The quality that a viewer, by the name their site knows them by, prefers for a recording.
create table quality_preferences (
    recording_id  uuid not null references recordings on delete cascade,
    user_id       text not null,
    -- No more than this.
    rendition     text,
    max_height    integer,
    data_saver    boolean not null default false,
    updated_at    timestamptz not null default now(),
    primary key (recording_id, user_id)
);
