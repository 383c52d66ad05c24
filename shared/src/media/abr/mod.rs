//! Which rung a viewer should play next: from what downloads took, what is in the buffer, and what the device can show.
//!
//! No clock, no chance, nothing kept elsewhere: the same said gives the same answer.

mod bandwidth;
mod caps;
mod engine;
mod ladder;
mod lookahead;
mod profile;
mod session;

pub use bandwidth::Bandwidth;
pub use caps::{Cap, Caps, Preference, Rung};
pub use engine::{Choice, Engine, Reason, Situation};
pub use profile::BitrateProfile;
pub use session::{Chosen, Download, Session, Switch};
