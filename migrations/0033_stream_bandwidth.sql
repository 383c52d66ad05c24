-- Bits per second that the viewers of a stream may take together, and that each takes at least: those of its lowest rung.

alter table streams
    add column bandwidth_limit bigint not null default 100000000 check (bandwidth_limit > 0),
    add column least_bitrate bigint not null default 0;
-- What is open was opened for so many viewers, at any bitrate.
update streams set bandwidth_limit = greatest(bandwidth_limit, max_viewers::bigint * 4000000) where ended_at is null;

-- Who has a place in a stream.
create index viewer_sessions_place on viewer_sessions (stream_id, seen_at) where stream_id is not null and left_at is null;
