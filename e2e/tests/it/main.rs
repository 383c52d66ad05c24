//! End to end: real processes, real PostgreSQL, real FFmpeg, and RabbitMQ where there is one.

#![allow(clippy::unwrap_used, reason = "tests")]

mod job_path;
