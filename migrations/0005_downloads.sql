-- Renditions as one file each, to be downloaded. A recording has its own even where it shares a set with others, so that what one
-- leaves behind is nobody else's.
create table downloads (
    recording_id uuid not null references recordings,
    set_id       uuid not null,
    rung         text not null,
    key          text not null,
    bytes        bigint not null,
    created_at   timestamptz not null default now(),
    primary key (recording_id, set_id, rung),
    foreign key (set_id, rung) references renditions on delete cascade
);
