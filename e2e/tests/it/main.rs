//! End to end: real processes, real PostgreSQL, real FFmpeg, and RabbitMQ where there is one.

#![allow(clippy::unwrap_used, reason = "tests")]

mod docs;
mod job_path;
mod readme;
