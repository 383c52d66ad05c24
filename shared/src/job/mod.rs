//! Jobs and tasks as values: what was asked for, which states there are, and how a source and a recipe become a plan.
//! Pure: nothing here knows of the database, the broker or the object store.

pub mod capability;
pub mod conversion;
pub mod edit;
pub mod encoder;
pub mod error;
pub mod estimate;
pub mod framing;
pub mod plan;
pub mod preview;
pub mod quality;
pub mod recipe;
pub mod retention;
pub mod retry;
pub mod spec;
pub mod state;
pub mod task;
pub mod transition;
