//! For tests and benchmarks only: private databases, an S3 endpoint, test media, and a farm of real processes to drive.
//!
//! Servers come from `scripts/test` (or `scripts/with-services`) through `REELMILL_TEST_DATABASE_URL` and
//! `REELMILL_TEST_AMQP_URL`; without them a private cluster is started for the test, and rings are lost, which the farm survives.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "test code: what goes wrong must be seen at once"
)]

pub mod broker;
pub mod client;
pub mod database;
pub mod farm;
pub mod ffmpeg;
pub mod media;
pub mod relay;
pub mod s3;
pub mod wait;

pub use client::Client;
pub use farm::{Farm, FarmBuilder};
