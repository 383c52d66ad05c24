-- Bits per second that the viewers of a stream may take together.

alter table streams
    add column bandwidth_limit bigint not null default 100000000 check (bandwidth_limit > 0);
