-- How near each segment of a rendition is to its source, where a job asked for it: one row a segment and rung, written by the
-- task that compared it. What a metric was not asked for is null.
create table segment_quality (
    set_id    uuid not null references sets on delete cascade,
    rung      text not null,
    number    integer not null,
    -- On the rung's own grid.
    frames    integer not null,
    -- Mean square error over all planes, of 8-bit samples: mean of the frames, and of the worst of them.
    mse       double precision,
    worst_mse double precision,
    -- 0 to 1: mean of the frames, and of the worst of them.
    ssim       double precision,
    worst_ssim double precision,
    -- 0 to 100: mean of the frames, and of the worst of them.
    vmaf       double precision,
    worst_vmaf double precision,
    primary key (set_id, rung, number)
);
