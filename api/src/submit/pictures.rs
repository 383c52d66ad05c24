//! What a wish says of pictures, checked.

use std::ops::RangeInclusive;

use reelmill_shared::job::spec::{JobKind, Moment, Output, PictureRequest, Poster, SeriesRequest};
use reelmill_shared::media::profile::FieldError;

use super::fault;
use crate::dto::job::{PosterDto, SeriesDto};

/// Pixels of a side.
const SIDES: RangeInclusive<u32> = 16..=3840;
/// Seconds between pictures of a series.
const INTERVALS: RangeInclusive<f64> = 0.1..=3600.0;

/// The poster of a job that makes one; what is wrong goes to `faults`.
pub(super) fn poster(
    kind: JobKind,
    outputs: &[Output],
    wanted: Option<&PosterDto>,
    faults: &mut Vec<FieldError>,
) -> Option<Poster> {
    let wanted = match (kind, wanted) {
        // The recording keeps the poster it has, or gets the usual one.
        (JobKind::Transcode, None) => return None,
        (JobKind::Transcode, Some(wanted)) if outputs.contains(&Output::Thumbnail) => wanted,
        (JobKind::Transcode, Some(_)) => {
            faults.push(fault("/thumbnail", "only goes with thumbnail among the outputs"));
            return None;
        }
        (JobKind::Thumbnail, wanted) => wanted.unwrap_or(&PosterDto::USUAL),
        (_, None) => return None,
        (_, Some(_)) => {
            faults.push(fault("/thumbnail", "only goes with kind transcode or thumbnail"));
            return None;
        }
    };
    let representative = wanted.representative == Some(true);
    let ways = [wanted.time.is_some(), wanted.percent.is_some(), representative];
    let mut sound = true;
    let mut wrong = |pointer: &str, detail: &str| {
        faults.push(fault(format!("/thumbnail{pointer}"), detail));
        sound = false;
    };
    if ways.iter().filter(|way| **way).count() > 1 {
        wrong("", "may have only one of time, percent and representative");
    }
    if wanted.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
        wrong("/percent", "must be from 0 to 100");
    }
    let picture = picture_request(wanted.time, wanted.width, wanted.height);
    if let Err((field, detail)) = picture {
        wrong(&format!("/{field}"), detail);
    }
    let picture = picture.ok().filter(|_| sound)?;
    let moment = match (picture.at_ms, wanted.percent, representative) {
        (Some(ms), ..) => Moment::AtMs(ms),
        (None, Some(percent), _) => Moment::Percent(percent),
        (None, None, true) => Moment::Representative,
        (None, None, false) => Moment::Usual,
    };
    Some(Poster { moment, width: picture.width, height: picture.height })
}

/// The series of pictures of a job that makes one; what is wrong goes to `faults`.
pub(super) fn series(
    kind: JobKind,
    wanted: Option<&SeriesDto>,
    faults: &mut Vec<FieldError>,
) -> Option<SeriesRequest> {
    let wanted = wanted?;
    let before = faults.len();
    if kind != JobKind::Transcode {
        faults.push(fault("/thumbnails", "only goes with kind transcode"));
    }
    if !INTERVALS.contains(&wanted.interval) {
        faults.push(fault("/thumbnails/interval", "must be from 0.1 to 3600 seconds"));
    }
    let width = wanted.width.unwrap_or(Poster::DEFAULT.width);
    if !SIDES.contains(&width) {
        faults.push(fault("/thumbnails/width", "must be from 16 to 3840"));
    }
    let sound = faults.len() == before;
    sound.then_some(SeriesRequest { interval_seconds: wanted.interval, width })
}

/// Checks a wish for a picture. A height alone or a width alone gives the other side in 16:9. Says which field is wrong, and how.
pub(crate) fn picture_request(
    time: Option<f64>,
    width: Option<u32>,
    height: Option<u32>,
) -> Result<PictureRequest, (&'static str, &'static str)> {
    if time.is_some_and(|time| !(0.0..=1e7).contains(&time)) {
        return Err(("time", "must be a number of seconds from 0"));
    }
    if width.is_some_and(|width| !SIDES.contains(&width)) {
        return Err(("width", "must be from 16 to 3840"));
    }
    if height.is_some_and(|height| !SIDES.contains(&height)) {
        return Err(("height", "must be from 16 to 3840"));
    }
    let usual = Poster::DEFAULT;
    let (width, height) = match (width, height) {
        (Some(width), Some(height)) => (width, height),
        (Some(width), None) => (width, width * usual.height / usual.width),
        (None, Some(height)) => (height * usual.width / usual.height, height),
        (None, None) => (usual.width, usual.height),
    };
    Ok(PictureRequest { at_ms: time.map(|time| (time * 1000.0).round() as u64), width, height })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: JobKind, outputs: &[Output], wanted: serde_json::Value) -> Result<Poster, Vec<String>> {
        let mut faults = vec![];
        let dto: PosterDto = serde_json::from_value(wanted).unwrap();
        let poster = poster(kind, outputs, Some(&dto), &mut faults);
        poster.ok_or_else(|| faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn a_poster_is_one_moment() {
        let of = |wanted| read(JobKind::Thumbnail, &[], wanted);
        let moment = |wanted| of(wanted).unwrap().moment;
        assert_eq!(of(json!({})), Ok(Poster::DEFAULT));
        assert_eq!(moment(json!({ "time": 1.5 })), Moment::AtMs(1500));
        assert_eq!(moment(json!({ "percent": 100 })), Moment::Percent(100.0));
        assert_eq!(moment(json!({ "representative": true })), Moment::Representative);
        assert_eq!(moment(json!({ "representative": false, "time": 0 })), Moment::AtMs(0));
        assert_eq!(of(json!({ "width": 640 })).unwrap().height, 360);
        let wrong = |wanted, pointers: &[&str]| assert_eq!(of(wanted).unwrap_err(), pointers);
        wrong(json!({ "time": 1, "percent": 2 }), &["/thumbnail"]);
        wrong(json!({ "percent": 2, "representative": true }), &["/thumbnail"]);
        wrong(json!({ "percent": 100.1, "width": 15 }), &["/thumbnail/percent", "/thumbnail/width"]);
        wrong(json!({ "time": -0.1 }), &["/thumbnail/time"]);
    }

    #[test]
    fn a_poster_goes_with_what_makes_one() {
        let some = json!({ "time": 1 });
        assert!(read(JobKind::Transcode, &[Output::Hls, Output::Thumbnail], some.clone()).is_ok());
        assert_eq!(read(JobKind::Transcode, &[Output::Hls], some.clone()).unwrap_err(), ["/thumbnail"]);
        assert_eq!(read(JobKind::Probe, &[], some).unwrap_err(), ["/thumbnail"]);
    }
}
