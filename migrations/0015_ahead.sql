-- How much earlier than others of its priority a task is taken: what tells whether an input is good, and what a viewer waits for, should
-- not wait behind all of an earlier job.
alter table tasks add column ahead_seconds integer not null default 0;
