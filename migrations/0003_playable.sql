-- A recording is played while its set still grows: what must be there first, and what its playlists promise all along.
alter table sets
    -- EXT-X-TARGETDURATION of all its playlists, in seconds; null for sets that were made whole.
    add column target_duration integer,
    add column duration_seconds double precision,
    add column needs_video boolean not null default false,
    add column needs_audio boolean not null default false,
    add column playable_at timestamptz;
-- When the recording could first be played for this job's work.
alter table jobs add column playable_at timestamptz;
-- A source brought into a container with an index, so that it can be cut. It lives as long as the job that made it.
alter table sources add column remux_of uuid references sources;
