-- Footage that was recorded elsewhere is a broadcast with no segments of its own: what there is of it is the recording it became.
alter table broadcasts alter column set_id drop not null;
alter table broadcasts add constraint broadcasts_has_media check (set_id is not null or recording_id is not null) not valid;
alter table broadcasts validate constraint broadcasts_has_media;
