//! Livestreams: what is asked of one, the states it goes through, and the key that opens it. Pure: no database, no network.

pub mod address;
pub mod event;
pub mod key;
pub mod latency;
pub mod origin;
pub mod spec;
pub mod state;
