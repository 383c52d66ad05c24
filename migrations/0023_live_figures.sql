-- Figures of livestreams are measured in more than one place: whoever measures writes rows of its own, one for each span of ten
-- seconds, and who reads adds them up. Nothing has written to this table before.
alter table livestream_figures
    -- A worker (the ingest) or an api (its edge).
    add column source uuid not null default '00000000-0000-0000-0000-000000000000',
    -- Pictures that were to be encoded.
    add column frames integer,
    -- What players told: how often, and how often without a wait for media since they had told last.
    add column reports integer,
    add column smooth_reports integer,
    -- Milliseconds, of those reports that told a latency, and how many did.
    add column latency_sum bigint,
    add column latency_count integer,
    -- The same by classes of reelmill_shared::live::latency.
    add column latencies integer[];
alter table livestream_figures drop constraint livestream_figures_pkey;
alter table livestream_figures add primary key (livestream_id, at, source);

alter table viewer_sessions
    -- By whom: a holder of an API key, the player itself, or an edge that saw its requests.
    add column told_by text not null default 'key' check (told_by in ('key', 'player', 'edge')),
    -- Address and user agent in one, where both are known: what an edge saw of a player that tells of itself, too, is not counted twice.
    add column watcher uuid;
