-- Viewer sessions of recordings: what was played of them, and sums of that which last longer than the sessions.

alter table viewer_sessions
    -- What is played, by its own length where that is known.
    add column duration_seconds double precision,
    -- Where the player was, and whether it played, when it told that last: what is played next is counted from there.
    add column position_seconds double precision,
    add column playing boolean,
    add column told_at timestamptz,
    -- Of what was played: how much, how far it reached, which hundredths of the whole it touched, whether it reached the end.
    add column played_seconds double precision,
    add column furthest_seconds double precision,
    add column watched bit(100),
    add column completed boolean,
    -- As the player told. Null is: it did not.
    add column stalled_seconds double precision,
    add column startup_ms integer,
    add column buffered_seconds double precision,
    add column bytes bigint,
    add column segments bigint,
    -- Nor need a player of a recording tell these.
    alter column buffer_events drop not null,
    alter column quality_changes drop not null;

-- Who watched goes with what they watched, also where a program deletes it that does not know these sessions.
alter table viewer_sessions drop constraint viewer_sessions_recording_id_fkey;
alter table viewer_sessions add constraint viewer_sessions_recording_id_fkey
    foreign key (recording_id) references recordings on delete cascade not valid;
alter table viewer_sessions validate constraint viewer_sessions_recording_id_fkey;
create index viewer_sessions_recording on viewer_sessions (recording_id, joined_at desc) where recording_id is not null;
-- What the sums of a day are made of.
create index viewer_sessions_joined on viewer_sessions (joined_at) where recording_id is not null;

-- Sessions of a recording that were joined within an hour or a day (UTC), summed up.
create table viewing_sums (
    recording_id     uuid not null references recordings on delete cascade,
    span             text not null check (span in ('hour', 'day')),
    at               timestamptz not null,
    sessions         bigint not null,
    -- Different ones.
    viewers          bigint not null,
    completed        bigint not null,
    played_seconds   double precision not null,
    last_seen_at     timestamptz not null,
    -- Of those who told how long they had waited: that, and how much they played.
    stalled_seconds  double precision,
    timed_seconds    double precision,
    startup_ms       bigint,
    startups         bigint not null,
    stalls           bigint,
    switches         bigint,
    -- How many sessions touched each hundredth.
    heat             bigint[] not null,
    -- {device | country | rendition: {name: [sessions, played seconds]}}
    names            jsonb not null,
    primary key (recording_id, span, at)
);
create index viewing_sums_age on viewing_sums (span, at);

-- Days before this one are summed up.
create table viewing_summed (
    one    boolean primary key default true check (one),
    until  timestamptz not null
);
