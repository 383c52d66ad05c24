-- Renditions are made in chunks by several tasks: they are played with one init segment, so all must agree on it.
alter table renditions add column init_sha256 bytea;
