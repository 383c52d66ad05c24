//! Things that break, one at a time and all at once; what must hold is in `checker`.

mod checker;
mod host;
mod parts;
pub mod processes;
pub mod random;
mod rings;
