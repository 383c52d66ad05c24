//! The statements of `db` against a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "tests")]

mod abr;
mod broadcasts;
mod claims;
mod deletion;
mod deliveries;
mod downloads;
mod ends;
mod events;
mod fixture;
mod idempotency;
mod leadership;
mod livestreams;
mod machine;
mod migrations;
mod retention;
mod reuse;
mod routing;
mod scheduling;
mod segment_deliveries;
mod streams;
mod versions;
mod viewing;
