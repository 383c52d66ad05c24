//! The program from outside.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests: what goes wrong must be seen at once")]

mod check_hls;
mod stand_in;
