//! Pictures taken out of the source: a recording's poster, and what somebody asks for by its time.

use super::{NewTask, deadline};
use crate::ids::{RecordingId, SourceId};
use crate::job::spec::{JobSpec, Moment, Output, PictureRequest, Poster};
use crate::job::task::{TaskSpec, ThumbnailSpec};
use crate::media::probe::Probe;

/// The one task of a job that takes a picture, whose source is stored; `None` where the job takes none.
pub fn picture(spec: &JobSpec, recording: RecordingId, probe: &Probe) -> Option<NewTask> {
    let (request, poster) = match (spec.picture, spec.poster) {
        (Some(request), _) => (request, None),
        (None, Some(poster)) => (poster.request(), Some(poster.moment)),
        (None, None) => return None,
    };
    Some(NewTask::new(TaskSpec::Thumbnail(thumbnail(spec, spec.source, recording, probe, request, poster))))
}

/// The poster of what a transcode makes of `source`. Without a wish the recording keeps the moment it has, but not where that may be
/// cut away.
pub(super) fn poster(spec: &JobSpec, source: SourceId, recording: RecordingId, probe: &Probe) -> TaskSpec {
    let request = spec.poster.unwrap_or(Poster::DEFAULT).request();
    let moment = spec.poster.map(|poster| poster.moment).or(spec.edit.is_trimmed().then_some(Moment::Usual));
    TaskSpec::Thumbnail(thumbnail(spec, source, recording, probe, request, moment))
}

/// The poster of a recording whose set is there already; `None` where the job wants none or there is nothing to see.
pub fn poster_alone(spec: &JobSpec, recording: RecordingId, probe: &Probe) -> Option<NewTask> {
    let wanted = spec.outputs.contains(&Output::Thumbnail)
        && spec.profile.as_ref().is_some_and(|profile| !profile.rungs.is_empty());
    (wanted && probe.video.is_some()).then(|| NewTask::new(poster(spec, spec.source, recording, probe)))
}

fn thumbnail(
    spec: &JobSpec,
    source: SourceId,
    recording: RecordingId,
    probe: &Probe,
    picture: PictureRequest,
    poster: Option<Moment>,
) -> ThumbnailSpec {
    let edit = spec.edit.clone();
    // One frame, and all from the keyframe before it: wherever it may be found.
    let decoded = probe.video.as_ref().map_or(0.0, |video| video.keyframe_gap_seconds);
    ThumbnailSpec { source, recording, picture, poster, edit, deadline_seconds: deadline(decoded) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::plan::tests::{probe, spec};

    #[test]
    fn there_is_time_to_decode_all_from_the_keyframe_before() {
        let (spec, mut seen) = (spec("web"), probe(36_000.0, None));
        let allowed = |probe: &Probe| match poster_alone(&spec, RecordingId::new(), probe).unwrap().spec {
            TaskSpec::Thumbnail(task) => task.deadline_seconds,
            other => panic!("{other:?}"),
        };
        let usual = allowed(&seen);
        seen.video.as_mut().unwrap().keyframe_gap_seconds = 36_000.0;
        assert!(usual < 3600 && allowed(&seen) > 36_000);
    }
}
