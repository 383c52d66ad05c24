//! Renditions of recordings as one file each.

use super::sets::{Rendition, TrackKind};
use super::tasks::{Claimed, prefix};
use super::{Db, DbError, GenericClient};
use crate::ids::{RecordingId, SetId};
use crate::job::spec::{self, DownloadRequest};

/// A stored MP4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    pub rung: String,
    pub key: String,
    pub bytes: u64,
}

/// Which of the renditions of a set, which come in the order of its index, are offered as files.
pub fn offered(all: &[Rendition]) -> Vec<&Rendition> {
    let of = |kind| all.iter().filter(move |rendition| rendition.kind == kind);
    spec::offered(of(TrackKind::Video), of(TrackKind::Audio))
}

impl From<&Rendition> for DownloadRequest {
    fn from(rendition: &Rendition) -> Self {
        Self { rung: rendition.rung.clone(), height: rendition.height }
    }
}

/// What can be downloaded of a recording's set, in no order.
pub async fn of_set(db: &Db, recording: RecordingId, set: SetId) -> Result<Vec<Download>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached("select rung, key, bytes from downloads where recording_id = $1 and set_id = $2")
        .await?;
    let rows = client.query(&statement, &[&recording.0, &set.0]).await?;
    Ok(rows
        .iter()
        .map(|row| Download {
            rung: row.get("rung"),
            key: row.get("key"),
            bytes: row.get::<_, i64>("bytes").max(0) as u64,
        })
        .collect())
}

/// Keeps a download, unless another task has made it meanwhile: then what this one wrote is swept. In the caller's guarded
/// transaction.
pub(crate) async fn put(
    client: &impl GenericClient,
    claimed: &Claimed,
    recording: RecordingId,
    set: SetId,
    download: &Download,
) -> Result<(), DbError> {
    let kept = client
        .execute(
            "insert into downloads (recording_id, set_id, rung, key, bytes) values ($1, $2, $3, $4, $5)
             on conflict do nothing",
            &[&recording.0, &set.0, &download.rung, &download.key, &(download.bytes as i64)],
        )
        .await?;
    if kept == 0 {
        client
            .execute(
                "insert into garbage (prefix, due_at) values ($1, now() + interval '1 minute')",
                &[&prefix(claimed.project_id, claimed.hold)],
            )
            .await?;
    }
    Ok(())
}
