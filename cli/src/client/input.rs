//! What a job is made from, as written on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use reelmill_shared::ids::{RecordingId, UploadId};
use serde_json::{Value, json};
use url::Url;

/// INPUT of `job submit`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// Uploaded first.
    File(PathBuf),
    /// Fetched by the farm.
    Url(Url),
    Upload(UploadId),
    Recording(RecordingId),
}

impl Input {
    /// Reads `upload:ID`, `recording:ID`, a URL, or else a path. A file with such a name is reached by `./`.
    pub(crate) fn parse(text: OsString) -> Result<Self, String> {
        let Some(word) = text.to_str() else {
            return Ok(Self::File(text.into()));
        };
        if word.is_empty() {
            return Err("give a file, a URL, upload:ID or recording:ID".to_owned());
        }
        if let Some(id) = word.strip_prefix("upload:") {
            return id.parse().map(Self::Upload).map_err(|error| format!("not the id of an upload: {error}"));
        }
        if let Some(id) = word.strip_prefix("recording:") {
            return id
                .parse()
                .map(Self::Recording)
                .map_err(|error| format!("not the id of a recording: {error}"));
        }
        let scheme = word.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("http" | "https" | "file") => {
                Url::parse(word).map(Self::Url).map_err(|error| format!("not a URL: {error}"))
            }
            Some(scheme) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
                Err(format!("{scheme}:// is not understood; give a file, or an http, https or file URL"))
            }
            _ => Ok(Self::File(word.into())),
        }
    }

    /// As the API takes it; a file has none until it is uploaded.
    pub(crate) fn to_json(&self) -> Option<Value> {
        match self {
            Self::File(_) => None,
            Self::Url(url) => Some(json!({ "url": url })),
            Self::Upload(id) => Some(json!({ "upload_id": id })),
            Self::Recording(id) => Some(json!({ "recording_id": id })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Input, String> {
        Input::parse(text.into())
    }

    #[test]
    fn every_kind_of_input_is_told_apart() {
        let id = "01a1f8b4-7093-702b-a7f4-ded97abf1264";
        assert_eq!(parse(&format!("upload:{id}")), Ok(Input::Upload(id.parse().unwrap())));
        assert_eq!(parse(&format!("recording:{id}")), Ok(Input::Recording(id.parse().unwrap())));
        for url in ["http://h/a.mp4", "HTTPS://h/a b.mp4?c=d", "file:///srv/a.mp4"] {
            assert!(matches!(parse(url), Ok(Input::Url(_))), "{url}");
        }
        for path in ["a.mp4", "./upload:x", "/srv/a.mp4", "C:\\a.mp4", "a:b", "dir/http.mp4", "a b://c"] {
            assert_eq!(parse(path), Ok(Input::File(path.into())), "{path}");
        }
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_sent() {
        for bad in ["", "upload:", "upload:12", "recording:x.mp4", "rtmp://h/live", "s3://b/k", "http://"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let name = OsString::from_vec(vec![b'a', 0xff]);
        assert_eq!(Input::parse(name.clone()), Ok(Input::File(name.into())));
    }
}
