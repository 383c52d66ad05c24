//! End to end: real processes, real PostgreSQL, real FFmpeg, and RabbitMQ where there is one.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod docs;
mod job_path;
mod judge;
mod media_footage;
mod media_hostile;
mod media_variants;
mod readme;
