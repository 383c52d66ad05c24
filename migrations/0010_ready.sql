-- When the recording was whole for this job's work; the job itself may still make files and reports.
alter table jobs add column ready_at timestamptz;
