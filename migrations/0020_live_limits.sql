-- How many streams a project may have on air, and how many watched one at most.

alter table projects
    add column max_concurrent_streams integer not null default 100 check (max_concurrent_streams > 0);

alter table livestreams
    add column peak_viewer_count integer not null default 0;
