//! Typed ids: a task's id cannot be passed where a job's is meant. All are UUIDv7, made in the program, so they sort by time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; ids made later sort later.
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// A tenant.
    ProjectId
    /// An API key.
    KeyId
    /// A video and everything made of it.
    RecordingId
    /// The bytes a recording was made from.
    SourceId
    /// A file on its way in.
    UploadId
    /// What a person asked for.
    JobId
    /// A piece of a job that one worker does.
    TaskId
    /// What one encode or one broadcast made.
    SetId
    /// A channel that may be on air.
    LivestreamId
    /// One time a livestream was on air.
    BroadcastId
    /// Somebody plays footage of a livestream, chosen by its time.
    PlaybackSessionId
    /// A recording or livestream that viewers join by name.
    StreamId
    /// A segment that somebody is to be sent.
    SegmentDeliveryId
    /// A worker process.
    WorkerId
    /// A scheduler process.
    SchedulerId
    /// Something that events are sent to.
    WebhookId
    /// An event on its way to one webhook.
    DeliveryId
}
