//! What decides on the bytes of a set, as a digest: the same digest, the same set.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::spec::JobSpec;

/// Raise it when a plan makes other bytes of the same source and recipe than before.
const PLAN_VERSION: u32 = 1;

/// Fields of a job that do not change what is encoded. Everything else counts, so that an option that is added later is never
/// taken for nothing. What pictures were made of a set is looked at when it is found (`db::reuse`).
const OF_NO_MATTER: [&str; 11] = [
    "input",
    "source",
    "outputs",
    "outputs_by_default",
    "picture",
    "poster",
    "series",
    "downloads",
    "callback_url",
    "force",
    "dry_run",
];

/// The digest of what `spec` makes of a source with this SHA-256, encoded by this build of FFmpeg.
///
/// `None` where the job has no profile: it encodes nothing; or where it adopts a part: who knows what build made that.
pub fn digest(spec: &JobSpec, sha256: &[u8], build: &[u8]) -> Option<[u8; 32]> {
    if spec.profile.is_none() || spec.adopt.is_some() {
        return None;
    }
    let mut recipe = serde_json::to_value(spec).ok()?;
    let fields = recipe.as_object_mut()?;
    fields.retain(|name, _| !OF_NO_MATTER.contains(&name.as_str()));
    if let Some(profile) = fields.get_mut("profile").and_then(Value::as_object_mut) {
        // What a recipe is called, and how long what it makes is kept, are no part of it.
        profile.remove("name");
        profile.remove("retention");
    }
    recipe.sort_all_objects();
    let text = recipe.to_string();
    let mut hash = Sha256::new();
    hash.update(PLAN_VERSION.to_be_bytes());
    // Each with its length: nothing of one can pass for a part of the next.
    for part in [sha256, build, text.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Some(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SourceId, UploadId};
    use crate::job::edit::Edit;
    use crate::job::spec::{Input, LadderChoice, Output};
    use crate::media::profile::Profile;

    fn spec(profile: &str) -> JobSpec {
        JobSpec {
            input: Input::UploadId(UploadId::new()),
            source: SourceId::new(),
            profile: Profile::built_in(profile),
            outputs: vec![Output::Hls],
            edit: Edit::default(),
            outputs_by_default: false,
            picture: None,
            poster: None,
            series: None,
            downloads: vec![],
            adopt: None,
            taken: None,
            ladder: LadderChoice::Fixed,
            quality: None,
            callback_url: None,
            force: false,
            dry_run: false,
        }
    }

    #[test]
    fn only_what_changes_the_bytes_changes_the_digest() {
        let web = spec("web");
        let of = |spec: &JobSpec| digest(spec, b"sha", b"build").unwrap();
        let callback_url = "https://example.com/hook".parse().ok();
        let mut same = JobSpec {
            force: true,
            callback_url,
            outputs: vec![Output::Hls, Output::Thumbnail],
            ..spec("web")
        };
        same.profile.as_mut().unwrap().name = None;
        assert_eq!(of(&web), of(&same), "another source row, name and outputs");
        let mut other = spec("web");
        other.profile.as_mut().unwrap().segment_duration = 4;
        let mut trimmed = spec("web");
        trimmed.edit.start_ms = Some(1000);
        for different in
            [of(&spec("fast")), of(&other), of(&trimmed), digest(&web, b"sh", b"abuild").unwrap()]
        {
            assert_ne!(of(&web), different);
        }
        assert_eq!(digest(&JobSpec { profile: None, ..web }, b"sha", b"build"), None);
    }
}
