-- Several tracks of a kind: what a viewer's menu calls one, and what it is for. Text beside picture and sound: it has no init segment,
-- but all of it in one file, which is what DASH players take.
alter table renditions
    add column label text,
    add column role text not null default 'main'
        check (role in ('main', 'commentary', 'description', 'captions', 'forced')),
    add column text_key text,
    add column text_bytes integer;
alter table renditions drop constraint renditions_kind_check;
alter table renditions add constraint renditions_kind_check check (kind in ('video', 'audio', 'text'));
