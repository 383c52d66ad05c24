//! Livestreams: what is asked of one, the states it goes through, and the key that opens it. Pure: no database, no network.

pub mod event;
pub mod key;
pub mod origin;
pub mod spec;
pub mod state;
