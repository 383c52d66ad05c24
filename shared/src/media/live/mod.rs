//! Live streams as data: how a broadcast is cut into segments and parts, what of it is listed at a moment, and the playlists
//! that say so (draft-pantos-hls-rfc8216bis). No clock, no file, no network: origin and edge are built on it alike.

pub mod assembly;
pub mod cadence;
pub mod cutter;
pub mod manifest;
pub mod names;
pub mod plan;
pub mod playlist;
pub mod presented;
pub mod window;

#[cfg(test)]
mod tests;
