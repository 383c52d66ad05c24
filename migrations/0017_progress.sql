-- Which quarter of the job the event log has told of.
alter table jobs add column told_quarter smallint not null default 0;
