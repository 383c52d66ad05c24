-- Viewers' tokens that were taken back: of a recording or livestream, all that end until then.

create table revocations (
    subject     uuid primary key,
    until       timestamptz not null,
    revoked_at  timestamptz not null default now()
);
create index revocations_recent on revocations (revoked_at);
