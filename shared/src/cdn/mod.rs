//! The CDN in front: the names it keeps things by, and how it is told to forget them, or to fetch them ahead.

mod ahead;
mod client;
mod keys;

pub use ahead::paths;
pub use client::{CdnClient, CdnError};
pub use keys::{CACHE_TAG, EDGE_CACHE_TAG, SURROGATE_KEY, SurrogateKey, listed};
