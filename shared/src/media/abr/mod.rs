//! Which rung a viewer should play next: from what downloads took, what is in the buffer, and what the device can show.
//!
//! No clock, no chance, nothing kept elsewhere: the same said gives the same answer.

mod bandwidth;
mod caps;
mod engine;

pub use bandwidth::Bandwidth;
pub use caps::{Cap, Caps, Rung};
pub use engine::{Choice, Engine, Reason, Situation};
