//! Outgoing HTTP: the one guarded client for downloads and webhooks; and servers of ours, whose addresses are settings.
//!
//! Addresses come from users, so every request could be aimed at the farm's own network (SSRF). Resolving,
//! checking and connecting therefore happen in one place: [`NetPolicy`] decides which addresses may be
//! reached and [`GuardedClient`] asks it for every address it connects to, on every hop of a redirect.
//! Nothing else in the project may make requests to an address a user gave; what speaks another protocol (a
//! live pull) asks [`NetPolicy::resolve`] and connects to the addresses it returns, never to the name.

mod client;
mod error;
mod mediamtx;
mod policy;
mod ranges;
mod redirect;
mod response;
#[cfg(test)]
mod tests;

pub use client::{GuardedClient, Limits};
pub use error::NetError;
pub use mediamtx::{Mediamtx, MediamtxConfig, MediamtxError};
pub use policy::{NetPolicy, PolicyError};
pub use ranges::{IpNet, IpNetError, is_public};
pub use redirect::{check_target, redacted};
pub use response::GuardedResponse;
