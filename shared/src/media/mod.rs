//! What the farm knows of media, as pure functions: bytes and text in, bytes and text out.

pub mod abr;
pub mod cmaf;
pub mod codec;
pub mod complexity;
pub mod dash;
pub mod footage;
pub mod grid;
pub mod hls;
pub mod ladder;
pub mod live;
pub mod loudness;
pub mod presentation;
pub mod probe;
pub mod profile;
pub mod representative;
pub mod storyboard;
pub mod tags;
pub mod thumbnails;
pub mod tracks;
pub mod ts;
pub mod webvtt;
