//! Things that break, one at a time and all at once; what must hold is in `checker`.

mod checker;
mod host;
mod parts;
mod processes;
mod random;
mod rings;
