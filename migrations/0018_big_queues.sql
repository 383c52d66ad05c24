-- What is asked every few seconds, or by a page, must not read all of a million rows that wait, nor all of a long history.
create index tasks_waiting on tasks (pool, ready_at) where status = 'ready';
create index jobs_listed on jobs (project_id, status, id desc) where status <> 'succeeded' and hidden_at is null;
create index jobs_open on jobs (status) where status in ('queued', 'running');
drop index jobs_unfinished;
