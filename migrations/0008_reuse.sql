-- What an attempt's FFmpeg took, all its threads together; estimates are learned from it. Null where it was not measured.
alter table attempts add column cpu_seconds double precision;
create index attempts_measured on attempts (finished_at desc) where cpu_seconds is not null and outcome = 'succeeded';
-- Digest of all that decides what is in the set: the source's bytes, the recipe, the plan's version, the encoders' build.
alter table sets add column recipe bytea;
create index sets_recipe on sets (project_id, recipe) where recipe is not null;
create index sets_project on sets (project_id, id desc);
