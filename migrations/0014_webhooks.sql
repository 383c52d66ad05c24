-- Something that events are sent to.
create table webhooks (
    id               uuid primary key,
    project_id       uuid not null references projects,
    kind             text not null check (kind in ('endpoint', 'callbacks')),
    -- Where to; callbacks go where their jobs say.
    url              text,
    description      text not null,
    -- Event types; none for all.
    events           text[] not null,
    -- Sealed. While one takes the other's place, both sign.
    secret           bytea not null,
    previous_secret  bytea,
    previous_until   timestamptz,
    disabled_at      timestamptz,
    disabled_reason  text,
    -- Since when every attempt has failed; null where the last one did not. Endpoints only.
    failing_since    timestamptz,
    -- The receiver asked to be left alone until then.
    quiet_until      timestamptz,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    check ((kind = 'endpoint') = (url is not null))
);
create index webhooks_project on webhooks (project_id, id);
create unique index webhooks_callbacks on webhooks (project_id) where kind = 'callbacks';

-- An event on its way to a webhook.
create table deliveries (
    id               uuid primary key,
    -- Deliveries are made, and told of, in this order.
    place            bigint generated always as identity,
    webhook_id       uuid not null references webhooks on delete cascade,
    -- What shares the fate of one receiver: the webhook, or of callbacks the server that their address names.
    lane             uuid not null,
    event_id         uuid not null,
    type             text not null,
    -- What it is about: order is kept among those of one subject.
    subject          uuid not null,
    -- Of callbacks; the others go to the webhook's.
    url              text,
    body             text not null,
    -- Asked for by somebody, after the first one.
    replay           boolean not null,
    state            text not null default 'pending' check (state in ('pending', 'delivered', 'dead')),
    -- Counted when one begins; the count is what a sender proves by that the delivery is still its own.
    attempts         integer not null default 0,
    next_attempt_at  timestamptz not null default now(),
    -- Set while an attempt is under way; who takes longer has died.
    leased_until     timestamptz,
    -- What came of the last attempt.
    attempted_at     timestamptz,
    status           integer,
    error            text,
    response         text,
    duration_ms      integer,
    created_at       timestamptz not null default now(),
    finished_at      timestamptz
);
-- An event goes to a webhook once by itself, and is on its way only once when it is replayed.
create unique index deliveries_once on deliveries (webhook_id, event_id) where not replay;
create unique index deliveries_replayed on deliveries (webhook_id, event_id) where replay and state = 'pending';
create index deliveries_lane on deliveries (lane, next_attempt_at, place) where state = 'pending';
create index deliveries_leased on deliveries (lane) where state = 'pending' and leased_until is not null;
create index deliveries_subject on deliveries (webhook_id, subject, place) where state = 'pending';
create index deliveries_listed on deliveries (webhook_id, place);

-- How far the event log has been turned into deliveries. One row.
create table fan_out (
    one   boolean primary key default true check (one),
    xid   xid8 not null,
    id    bigint not null
);
insert into fan_out (xid, id) values (pg_current_xact_id(), 0);
