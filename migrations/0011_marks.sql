-- Which jobs lay an image on their pictures, by the image: asked before an upload that nobody seems to need is tidied away.
create index jobs_mark on jobs ((spec -> 'edit' -> 'watermark' ->> 'source'))
where (spec -> 'edit' -> 'watermark' ->> 'source') is not null;
