//! The vocabulary of the farm: ids, jobs, media, the database, the broker and the object store.
//!
//! Nothing here serves HTTP or starts FFmpeg. `job`, `live` and `media` are pure and import neither `db`, `broker` nor `storage`.

pub mod auth;
pub mod broker;
pub mod cdn;
pub mod config;
pub mod db;
pub mod ids;
pub mod job;
pub mod lifecycle;
pub mod live;
pub mod media;
pub mod net;
pub mod storage;
pub mod telemetry;
pub mod webhook;
