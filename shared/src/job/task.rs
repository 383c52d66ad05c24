//! Task kinds and what each is told. A new kind is a variant here and a file in `worker/src/tasks`.

use serde::{Deserialize, Serialize};

use super::capability::{Capability, Class, Pool};
use super::edit::{Edit, Watermark};
use super::encoder::Encoder;
use super::quality::{Least, Metric};
use super::spec::{DownloadRequest, Moment, PictureRequest};
use super::state::words;
use crate::ids::{BroadcastId, RecordingId, SetId, SourceId};
use crate::media::grid::{AudioGrid, AudioSpan, Grid, Span};
use crate::media::probe::UnsaidColours;
use crate::media::profile::{Preset, RateControl};
use crate::media::storyboard::Storyboard;
use crate::media::thumbnails::Series;
use crate::media::tracks::Role;

words! {
    /// What a task does.
    TaskKind("task kind") {
        Fetch = "fetch",
        Probe = "probe",
        Remux = "remux",
        TakeOver = "take_over",
        Complexity = "complexity",
        Encode = "encode",
        Audio = "audio",
        Loudness = "loudness",
        Subtitles = "subtitles",
        Thumbnail = "thumbnail",
        Storyboard = "storyboard",
        Thumbnails = "thumbnails",
        Quality = "quality",
        Report = "report",
        Finish = "finish",
        Mp4 = "mp4",
    }
}

/// A task's orders, frozen when the task is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskSpec {
    Fetch(FetchSpec),
    Probe(ProbeSpec),
    Remux(RemuxSpec),
    TakeOver(TakeOverSpec),
    Complexity(Box<ComplexitySpec>),
    Encode(EncodeSpec),
    Audio(AudioSpec),
    Loudness(LoudnessSpec),
    Subtitles(SubtitlesSpec),
    Thumbnail(ThumbnailSpec),
    Storyboard(StoryboardSpec),
    Thumbnails(ThumbnailsSpec),
    Quality(QualitySpec),
    Report(ReportSpec),
    Finish(FinishSpec),
    Mp4(Mp4Spec),
}

/// Bring a source into the store. Where from is in the source's row, not here: it may hold credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchSpec {
    pub source: SourceId,
}

/// Look into a source and plan the rest of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeSpec {
    pub source: SourceId,
    /// What was begun before all of the source was looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led: Option<Box<Led>>,
}

/// The bytes of a source that are enough for its beginning: from and to, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent(pub Vec<(u64, u64)>);

/// The beginning of a long source: made for who waits, on what the first seconds tell. The plan builds on it where it fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Led {
    pub video: EncodeSpec,
    pub audio: Option<AudioSpec>,
}

/// Bring a source that has been looked into into a container with an index, and plan the rest of the job on that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemuxSpec {
    pub source: SourceId,
    /// What the result is called.
    pub remuxed: SourceId,
    pub deadline_seconds: u64,
}

/// Take a rendition of a broadcast into a set: it is cut anew, on one grid, and not encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOverSpec {
    pub broadcast: BroadcastId,
    pub set: SetId,
    pub track: TakenTrack,
}

/// Which, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenTrack {
    Picture(EncodeRung),
    Sound(AudioSpec),
}

impl TakenTrack {
    /// The name of the rendition, the same as on air.
    pub fn name(&self) -> &str {
        match self {
            Self::Picture(rung) => &rung.name,
            Self::Sound(sound) => &sound.rung,
        }
    }
}

/// Encode samples of a source that was looked into, at little cost, decide on its ladder, and plan the rest of the job on that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComplexitySpec {
    /// What all rungs of the recipe would be made like. It names the source.
    pub whole: EncodeSpec,
    /// What of it is encoded to find out.
    pub samples: Vec<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led: Option<Led>,
}

/// Decode a source once and encode all rungs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeSpec {
    pub source: SourceId,
    /// All that is needed of the source; `None`: all of it.
    #[serde(default)]
    pub extent: Option<Extent>,
    pub set: SetId,
    /// Index of the video track in the file.
    pub stream: u32,
    /// Grid of the source; each rung has its own beside it.
    pub grid: Grid,
    /// The chunk of it that this task encodes; `None` for all of it.
    #[serde(default)]
    pub span: Option<Span>,
    /// Milliseconds into the source at which the grid begins.
    #[serde(default)]
    pub offset_ms: u64,
    /// For how many source frames the last picture may be held where the track ends early.
    pub hold_frames: u64,
    /// Size to which frames that change it in mid-stream are brought first; `None` where the container turns the picture, so
    /// that FFmpeg's own filters come before ours.
    #[serde(default)]
    pub stored_size: Option<(u32, u32)>,
    pub deinterlace: bool,
    /// From a high dynamic range to BT.709.
    pub tone_map: bool,
    #[serde(default)]
    pub unsaid_colours: UnsaidColours,
    #[serde(default)]
    pub crop: Option<CropArea>,
    #[serde(default)]
    pub watermark: Option<Watermark>,
    pub preset: Preset,
    /// Encoder and decoder threads, at least 1.
    pub threads: u32,
    pub rungs: Vec<EncodeRung>,
    pub deadline_seconds: u64,
}

impl EncodeSpec {
    /// What of the grid this task encodes.
    pub fn span(&self) -> Span {
        self.span.unwrap_or_else(|| Span::whole(&self.grid))
    }

    /// Seconds into the source at which it starts to encode.
    pub fn source_seconds(&self) -> f64 {
        self.offset_ms as f64 / 1000.0 + self.grid.rate.seconds(self.span().start())
    }

    /// True where it has to find its place in the source.
    pub fn begins_later(&self) -> bool {
        self.offset_ms > 0 || self.span().start() > 0
    }

    /// True where nothing of the grid comes after it.
    pub fn is_last(&self) -> bool {
        let span = self.span();
        span.first + span.frames == self.grid.frames
    }

    /// What of `rung` this task encodes, on the rung's own grid.
    pub fn rung_span(&self, rung: &EncodeRung) -> Span {
        rung.grid.rung_span(&self.grid, &self.span()).without(rung.skip_segments, &rung.grid)
    }
}

/// What of the decoded frame is used, in its own pixels: even numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CropArea {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// One rung of an encode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeRung {
    pub name: String,
    /// Place in the ladder, best first.
    #[serde(default)]
    pub position: i32,
    /// Segments at the start of the chunk that another task makes: the lead, which a viewer waits for.
    #[serde(default)]
    pub skip_segments: u64,
    /// The same for all chunks of a rendition.
    #[serde(default)]
    pub encoder: Encoder,
    pub width: u32,
    pub height: u32,
    /// Size of the picture within black bars; `None` where it fills the rung.
    #[serde(default)]
    pub content: Option<(u32, u32)>,
    pub grid: Grid,
    #[serde(flatten)]
    pub rate_control: RateControl,
}

/// Encode one audio track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioSpec {
    pub source: SourceId,
    /// All that is needed of the source; `None`: all of it.
    #[serde(default)]
    pub extent: Option<Extent>,
    pub set: SetId,
    /// Name of the rendition.
    #[serde(default = "first_audio_rung")]
    pub rung: String,
    /// Place among the audio tracks, the default one first.
    #[serde(default)]
    pub position: i32,
    pub stream: u32,
    pub grid: AudioGrid,
    /// What of the grid this task encodes; `None` for all of it.
    #[serde(default)]
    pub span: Option<AudioSpan>,
    /// Milliseconds into the source at which the grid begins.
    #[serde(default)]
    pub offset_ms: u64,
    /// Samples per second of the source.
    #[serde(default)]
    pub source_rate: u32,
    /// Bits per second.
    pub bitrate: u64,
    /// BCP 47.
    pub language: Option<String>,
    /// What a menu calls it.
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    pub role: Role,
    /// True where the job measures the track's loudness first: its gain is in the job's result.
    #[serde(default)]
    pub normalise: bool,
    pub deadline_seconds: u64,
}

fn first_audio_rung() -> String {
    AUDIO_RUNG.to_owned()
}

impl AudioSpec {
    /// What of the grid this task encodes.
    pub fn span(&self) -> AudioSpan {
        self.span.unwrap_or_else(|| AudioSpan::whole(&self.grid))
    }
}

/// Measure how loud tracks are over all their length, as they will be encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoudnessSpec {
    pub source: SourceId,
    /// What they are to be brought to, in LUFS.
    pub target: f64,
    /// All of each.
    pub tracks: Vec<AudioSpec>,
    pub deadline_seconds: u64,
}

/// Make WebVTT of text tracks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtitlesSpec {
    pub source: SourceId,
    pub set: SetId,
    /// Segments are those of the picture.
    pub grid: Grid,
    /// Milliseconds into the source at which the grid begins.
    #[serde(default)]
    pub offset_ms: u64,
    pub tracks: Vec<SubtitleTrack>,
    pub deadline_seconds: u64,
}

/// A text track.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtitleTrack {
    /// Name of the rendition.
    pub rung: String,
    /// Place among the text tracks.
    pub position: i32,
    pub stream: u32,
    /// BCP 47.
    pub language: Option<String>,
    /// What a menu calls it.
    pub label: String,
    pub role: Role,
}

/// Take one picture out of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThumbnailSpec {
    pub source: SourceId,
    pub recording: RecordingId,
    pub picture: PictureRequest,
    /// Where the picture becomes the recording's poster: of which moment; `picture` gives the size.
    #[serde(default)]
    pub poster: Option<Moment>,
    /// As the recording is: the same part of the source, framed and marked alike.
    #[serde(default)]
    pub edit: Edit,
    pub deadline_seconds: u64,
}

/// A rendition that pictures are taken out of, once all of it is encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillSource {
    pub set: SetId,
    pub rung: String,
    /// Of the rung.
    pub grid: Grid,
}

/// Lay small pictures of a rendition's keyframes out on sheets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryboardSpec {
    pub from: StillSource,
    pub board: Storyboard,
    pub deadline_seconds: u64,
}

/// Take a series of pictures out of a rendition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThumbnailsSpec {
    pub from: StillSource,
    pub series: Series,
    /// Pixels of each.
    pub width: u32,
    pub height: u32,
    pub deadline_seconds: u64,
}

/// Compare what was encoded of a span with what the encoder was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualitySpec {
    /// The orders of the encodes, for a span without a warm-up and all rungs.
    pub encoded: EncodeSpec,
    /// At least one, each once.
    pub metrics: Vec<Metric>,
}

/// Sum up what was measured of a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportSpec {
    pub set: SetId,
    pub metrics: Vec<Metric>,
    /// Seconds of a whole segment, in all rungs.
    pub segment_seconds: f64,
    /// Segments each rung must have, by name, best first.
    pub expect: Vec<(String, u64)>,
    /// What the means must reach; checked by the finish, so that the report can be read where they do not.
    #[serde(default)]
    pub least: Least,
}

/// Check that a set is whole, write its static playlists and make the recording ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishSpec {
    pub recording: RecordingId,
    pub set: SetId,
    pub duration_seconds: f64,
    /// Of all playlists, in seconds, as promised while the set grew.
    #[serde(default)]
    pub target_duration: Option<u32>,
    /// Segments each rung must have, by name.
    pub expect: Vec<(String, u64)>,
    /// The report that must be good enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportSpec>,
}

/// Put a rendition of a finished set into one file to be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mp4Spec {
    pub recording: RecordingId,
    pub set: SetId,
    #[serde(flatten)]
    pub download: DownloadRequest,
    pub deadline_seconds: u64,
}

/// Name of the default audio rendition; the others have a number from 2 on behind it.
pub const AUDIO_RUNG: &str = "audio";
/// Name of the first text rendition; the others as with audio.
pub const SUBTITLES_RUNG: &str = "subtitles";

/// The name of the track at `position` among those called `first`.
pub fn track_rung(first: &str, position: usize) -> String {
    if position == 0 { first.to_owned() } else { format!("{first}_{}", position + 1) }
}

impl TaskSpec {
    /// The kind of these orders.
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::Fetch(_) => TaskKind::Fetch,
            Self::Probe(_) => TaskKind::Probe,
            Self::Remux(_) => TaskKind::Remux,
            Self::TakeOver(_) => TaskKind::TakeOver,
            Self::Complexity(_) => TaskKind::Complexity,
            Self::Encode(_) => TaskKind::Encode,
            Self::Audio(_) => TaskKind::Audio,
            Self::Loudness(_) => TaskKind::Loudness,
            Self::Subtitles(_) => TaskKind::Subtitles,
            Self::Thumbnail(_) => TaskKind::Thumbnail,
            Self::Storyboard(_) => TaskKind::Storyboard,
            Self::Thumbnails(_) => TaskKind::Thumbnails,
            Self::Quality(_) => TaskKind::Quality,
            Self::Report(_) => TaskKind::Report,
            Self::Finish(_) => TaskKind::Finish,
            Self::Mp4(_) => TaskKind::Mp4,
        }
    }

    /// The workers these orders are for.
    pub fn pool(&self) -> Pool {
        match self {
            Self::Encode(encode) if encode.rungs.iter().any(|rung| rung.encoder.is_hardware()) => Pool::Gpu,
            _ => Pool::Cpu,
        }
    }

    /// True for what tells whether an input is good, and for what a viewer waits for first.
    pub fn is_opening(&self) -> bool {
        match self {
            Self::Fetch(_) | Self::Probe(_) => true,
            Self::Encode(encode) => {
                encode.span.is_some_and(|span| span.first == 0 && span.frames <= encode.grid.segment_frames())
            }
            Self::Audio(audio) => audio.position == 0 && audio.span.is_some_and(|span| span.segment == 0),
            _ => false,
        }
    }

    /// Names of the renditions it makes or measures, or a part of them.
    pub fn renditions(&self) -> Vec<String> {
        match self {
            Self::Encode(encode) => encode.rungs.iter().map(|rung| rung.name.clone()).collect(),
            Self::Quality(quality) => quality.encoded.rungs.iter().map(|rung| rung.name.clone()).collect(),
            Self::Audio(audio) => vec![audio.rung.clone()],
            Self::Subtitles(text) => text.tracks.iter().map(|track| track.rung.clone()).collect(),
            Self::TakeOver(taken) => vec![taken.track.name().to_owned()],
            Self::Mp4(mp4) => vec![mp4.download.rung.clone()],
            _ => vec![],
        }
    }

    /// What a worker must have proven for these orders.
    pub fn class(&self) -> Class {
        match self {
            Self::Encode(encode) => {
                let encoders: Vec<Capability> =
                    encode.rungs.iter().map(|rung| Capability::Encoder(rung.encoder)).collect();
                Class::of(&encoders)
            }
            Self::Complexity(_) => Class::of(&[Capability::Encoder(Encoder::Libx264)]),
            Self::Quality(quality) => {
                let needed: Vec<Capability> = quality.metrics.iter().map(|metric| metric.needs()).collect();
                Class::of(&needed)
            }
            Self::Fetch(_)
            | Self::Probe(_)
            | Self::Remux(_)
            | Self::TakeOver(_)
            | Self::Audio(_)
            | Self::Loudness(_)
            | Self::Subtitles(_)
            | Self::Thumbnail(_)
            | Self::Storyboard(_)
            | Self::Thumbnails(_)
            | Self::Report(_)
            | Self::Finish(_)
            | Self::Mp4(_) => Class::of(&[]),
        }
    }

    /// The share of a job's work this task stands for, relative to its siblings, for the job's progress.
    pub fn weight(&self) -> f64 {
        match self {
            Self::Encode(encode) => 100.0 * encode.span().frames as f64 / encode.grid.frames.max(1) as f64,
            Self::Audio(audio) => {
                3.0 * audio.span().frames(&audio.grid) as f64 / audio.grid.frames.max(1) as f64
            }
            Self::Fetch(_) => 5.0,
            Self::Quality(quality) => {
                let encoded = &quality.encoded;
                30.0 * encoded.span().frames as f64 / encoded.grid.frames.max(1) as f64
            }
            Self::Remux(_) | Self::TakeOver(_) | Self::Complexity(_) | Self::Loudness(_) => 2.0,
            Self::Probe(_)
            | Self::Subtitles(_)
            | Self::Thumbnail(_)
            | Self::Storyboard(_)
            | Self::Thumbnails(_)
            | Self::Report(_)
            | Self::Finish(_)
            | Self::Mp4(_) => 0.5,
        }
    }
}
