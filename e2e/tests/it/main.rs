//! End to end: real processes, real PostgreSQL, real FFmpeg, and RabbitMQ where there is one.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests: what goes wrong must be seen at once")]

mod browser;
mod browser_dash;
mod dev;
mod docs;
mod faults;
mod fleet;
mod http_auth;
mod http_auth_viewers;
mod http_events;
mod http_idempotency;
mod http_jobs;
mod http_media;
mod http_openapi;
mod http_uploads;
mod job_path;
mod judge;
mod media_changing;
mod media_chunks;
mod media_codecs;
mod media_dash;
mod media_downloads;
mod media_early;
mod media_edit;
mod media_footage;
mod media_hostile;
mod media_loudness;
mod media_pictures;
mod media_quality;
mod media_times;
mod media_tracks;
mod media_transport;
mod media_variants;
mod python;
mod readme;
mod receiver;
mod retention;
mod reuse;
mod reuse_dry_run;
mod reuse_more;
mod support;
mod upgrade;
mod webhooks;
mod webhooks_cli;
mod webhooks_faults;
