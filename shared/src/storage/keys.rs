//! Names of objects. Made of ids and checked names only; what an attempt writes lies under its own prefix
//! (`db::tasks::prefix`), so names carry the epoch and nothing is ever overwritten.

use uuid::Uuid;

use crate::ids::{BroadcastId, ProjectId, UploadId};

/// A piece of an upload. The random part keeps two writers at the same place apart: only one of them gets into the rows.
pub fn upload_piece(project: ProjectId, upload: UploadId, start: u64) -> String {
    format!("p/{project}/uploads/{upload}/{start}-{}", Uuid::now_v7().simple())
}

/// A fetched source.
pub fn fetched(prefix: &str) -> String {
    format!("{prefix}source")
}

/// A source in another container.
pub fn remuxed(prefix: &str) -> String {
    format!("{prefix}remuxed.mkv")
}

/// All of a broadcast lies under this.
pub fn broadcast(project: ProjectId, broadcast: BroadcastId) -> String {
    format!("p/{project}/b/{broadcast}/")
}

/// What a run of a broadcast writes lies under this: the epoch makes it the run's own.
pub fn live_prefix(broadcast: &str, epoch: u32) -> String {
    format!("{broadcast}{epoch}/")
}

/// A segment of a broadcast, by its media sequence number.
pub fn live_segment(prefix: &str, track: &str, number: u64) -> String {
    format!("{prefix}{track}/{number}.m4s")
}

/// A picture of a broadcast, by the number of the segment it is taken from.
pub fn live_thumbnail(prefix: &str, number: u64) -> String {
    format!("{prefix}thumbnail-{number}.jpg")
}

/// The init segment of a rendition.
pub fn init(prefix: &str, rung: &str) -> String {
    format!("{prefix}{rung}/init.mp4")
}

/// A media segment of a rendition.
pub fn segment(prefix: &str, rung: &str, number: u32) -> String {
    format!("{prefix}{rung}/{number:05}.m4s")
}

/// A segment of text.
pub fn text_segment(prefix: &str, rung: &str, number: u32) -> String {
    format!("{prefix}{rung}/{number:05}.vtt")
}

/// All of a text.
pub fn text(prefix: &str, rung: &str) -> String {
    format!("{prefix}{rung}/all.vtt")
}

/// A static playlist.
pub fn playlist(prefix: &str, name: &str) -> String {
    format!("{prefix}{name}.m3u8")
}

/// The static DASH manifest.
pub fn manifest(prefix: &str) -> String {
    format!("{prefix}manifest.mpd")
}

/// A rendition as one file.
pub fn download(prefix: &str, rung: &str) -> String {
    format!("{prefix}{rung}.mp4")
}

/// A picture.
pub fn picture(prefix: &str) -> String {
    format!("{prefix}picture.jpg")
}

/// A sheet of a storyboard, from zero.
pub fn sheet(prefix: &str, number: u32) -> String {
    format!("{prefix}sheet-{number:02}.jpg")
}

/// The storyboard that names the sheets beside it.
pub fn storyboard(prefix: &str) -> String {
    format!("{prefix}storyboard.vtt")
}

/// A picture of a series, from zero.
pub fn thumbnail(prefix: &str, number: u32) -> String {
    format!("{prefix}thumbnail-{number:03}.jpg")
}

/// The relative reference from an object in the folder `from` (ends in `/`) to the object `to`.
pub fn relative(from: &str, to: &str) -> String {
    let from: Vec<&str> = from.trim_end_matches('/').split('/').collect();
    let to: Vec<&str> = to.split('/').collect();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut parts = vec![".."; from.len() - shared];
    parts.extend(&to[shared..]);
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn references_climb_only_as_far_as_needed() {
        assert_eq!(relative("p/a/t/x/1/", "p/a/t/y/2/720p/init.mp4"), "../../y/2/720p/init.mp4");
        assert_eq!(relative("p/a/", "p/a/b.m3u8"), "b.m3u8");
    }
}
