-- Pictures made out of a set: sheets of its storyboard, and series of thumbnails.
create table stills (
    set_id  uuid not null references sets on delete cascade,
    kind    text not null check (kind in ('sheet', 'thumbnail')),
    -- From zero.
    number  integer not null,
    -- When the first thing on it is shown, from the start.
    at_ms   bigint not null,
    epoch   integer not null,
    key     text not null,
    bytes   integer not null,
    primary key (set_id, kind, number)
);

-- How the sheets of a set's storyboard are laid out, once they are there.
alter table sets add column storyboard jsonb;

-- The picture a recording is known by: its moment, null for the usual one, and the box it fits into, null for 320x180. Rows of
-- `pictures` whose at_ms is -1 show that moment.
alter table recordings
    add column poster_at_ms  bigint,
    add column poster_width  integer,
    add column poster_height integer;
