-- How often viewers' tokens of a recording or livestream were taken back: those that were given out before are worth nothing.

create table revocations (
    subject     uuid primary key,
    generation  integer not null default 1,
    revoked_at  timestamptz not null default now()
);
create index revocations_recent on revocations (revoked_at);
