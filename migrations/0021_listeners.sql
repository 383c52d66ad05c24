-- Who listens for the publisher of a livestream that comes by SRT, at which address, until when. Nobody carries the stream for that:
-- it is taken when the publisher comes.
create table live_listeners (
    livestream_id  uuid primary key references livestreams,
    worker_id      uuid not null,
    -- For publishers: host:port.
    address        text not null,
    expires_at     timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
create index live_listeners_worker on live_listeners (worker_id);

-- What workers look for every second.
create index livestreams_srt on livestreams (id) where deleted_at is null and spec->>'source' = 'srt';
