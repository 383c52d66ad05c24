-- Where the keyframes lie in a segment of video, for playlists of I-frames: [offset, bytes, ticks to the next] of each. Null where
-- it was not noted.
alter table segments add column keyframes jsonb;
-- Bits per second of the I-frames alone; null until they are measured.
alter table renditions add column iframe_peak_bandwidth bigint, add column iframe_average_bandwidth bigint;
