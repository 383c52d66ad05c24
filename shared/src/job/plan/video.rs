//! The picture: chunks, and the lead that a viewer waits for.

use super::{Circumstances, deadline, encoders, is_indexed};
use crate::ids::{SetId, SourceId};
use crate::job::edit::Edit;
use crate::job::encoder::Encoder;
use crate::job::error::TaskError;
use crate::job::framing::Framing;
use crate::job::task::{EncodeRung, EncodeSpec, TaskSpec};
use crate::media::codec::Codec;
use crate::media::grid::{Grid, Span};
use crate::media::ladder;
use crate::media::probe::{Probe, Transfer, VideoStream};
use crate::media::profile::{Profile, Rung};

/// A chunk is at least this long, where nobody set its length: each costs a warm-up GOP.
const SHORTEST_CHUNK_SECONDS: f64 = 20.0;
/// And at most about this long: what is lost with a worker.
const LONGEST_CHUNK_SECONDS: f64 = 60.0;
/// Chunks near the beginning are shorter, in segments: somebody may be watching already.
const FIRST_CHUNKS: [u64; 2] = [2, 4];
/// So many chunks near the end are cut in two.
const LAST_CHUNKS: u64 = 3;
/// Up to this length a source is not led: it is encoded soon anyway, and the lead decodes its segment once more.
pub(super) const UNLED_SECONDS: f64 = 30.0;
/// An encode never gets more threads of idle slots than this: x264 gains little beyond.
const MOST_THREADS: u32 = 8;
/// How long the last picture may be held for a track that decodes to less than it promised.
const HOLD_SECONDS: f64 = 1.0;

/// All of the picture in one task.
pub(super) fn whole(
    source: SourceId,
    set: SetId,
    profile: &Profile,
    edit: &Edit,
    video: &VideoStream,
    grid: Grid,
) -> Result<EncodeSpec, TaskError> {
    let framing = Framing::of(edit, video)?;
    let canvas = framing.canvas;
    let share = edit.reduction(canvas);
    let limited: Vec<Rung> = profile.rungs.iter().cloned().map(|rung| edit.limited(rung)).collect();
    let rungs = (0..)
        .zip(ladder::fit(&limited, canvas.0 * share, canvas.1 * share))
        .map(|(position, fitted)| EncodeRung {
            name: fitted.rung.name,
            position,
            skip_segments: 0,
            encoder: Encoder::software(fitted.rung.codec),
            width: fitted.width,
            height: fitted.height,
            content: framing.content_on((fitted.width, fitted.height)),
            grid: grid.capped(fitted.rung.max_frame_rate),
            rate_control: fitted.rung.rate_control,
        })
        .collect();
    let held = grid.frames.saturating_sub(grid.rate.frames_in(edit.trimmed(video.end_seconds)));
    Ok(EncodeSpec {
        source,
        extent: None,
        set,
        stream: video.index,
        grid,
        span: None,
        offset_ms: edit.start_ms.unwrap_or(0),
        hold_frames: held + grid.rate.frames_in(HOLD_SECONDS),
        stored_size: (!video.display_matrix).then_some((video.width, video.height)),
        deinterlace: video.interlaced,
        tone_map: video.transfer != Transfer::Sdr,
        unsaid_colours: video.unsaid_colours,
        crop: framing.crop,
        watermark: edit.watermark,
        preset: profile.preset,
        threads: 1,
        rungs,
        deadline_seconds: deadline(grid.duration()),
    })
}

/// The tasks that make `whole` of a source whose picture ends at `end_seconds` of the recording, in its order: the lead, unless it is made
/// already, then the chunks.
pub(super) fn tasks(
    whole: &EncodeSpec,
    probe: &Probe,
    end_seconds: f64,
    led: bool,
    circumstances: &Circumstances,
) -> Vec<TaskSpec> {
    let grid = &whole.grid;
    // What was led is there, however short the rest has turned out to be.
    let leads = led || grid.duration() > UNLED_SECONDS && grid.segments() > 1;
    let gap = probe.video.as_ref().map_or(0.0, |video| video.keyframe_gap_seconds);
    let spans = if is_indexed(probe) {
        chunks(grid, end_seconds, gap, leads, circumstances)
    } else {
        vec![Span::whole(grid)]
    };
    let threads = circumstances
        .encode_threads
        .unwrap_or_else(|| (circumstances.free_slots / spans.len().max(1) as u32).clamp(1, MOST_THREADS))
        .max(1);
    let mut encodes: Vec<EncodeSpec> =
        spans.into_iter().map(|span| EncodeSpec { span: Some(span), threads, ..whole.clone() }).collect();
    if leads {
        let lead = lead(whole, threads);
        if let Some(first) = encodes.first_mut() {
            leave_to(&lead, first);
        }
        encodes.retain(|encode| !encode.rungs.is_empty());
        if !led {
            encodes.insert(0, lead);
        }
    }
    let timed = encodes.into_iter().map(|encode| timed(encode, probe));
    timed.flat_map(|encode| encoders::part(encode, &circumstances.mixes)).map(TaskSpec::Encode).collect()
}

/// The same with its deadline: for what it encodes, and what it must decode to get there.
pub(super) fn timed(encode: EncodeSpec, probe: &Probe) -> EncodeSpec {
    let start = encode.source_seconds();
    let video = probe.video.as_ref().filter(|_| is_indexed(probe));
    let before = video.map_or(start, |video| video.decoded_before(start));
    let seconds = encode.grid.rate.seconds(encode.span().encoded());
    EncodeSpec { deadline_seconds: deadline(before + seconds), ..encode }
}

/// The first segment of the lowest rung, alone: of those that every player plays, where there are any.
pub(super) fn lead(whole: &EncodeSpec, threads: u32) -> EncodeSpec {
    let frames = whole.grid.segment_frames().min(whole.grid.frames);
    let lowest = whole.rungs.iter().rfind(|rung| rung.encoder.codec() == Codec::H264);
    EncodeSpec {
        span: Some(Span { first: 0, frames, warm_up: 0 }),
        threads,
        rungs: lowest.or(whole.rungs.last()).cloned().into_iter().collect(),
        ..whole.clone()
    }
}

/// Whether `led` is the lead of `whole`, whatever length the recording was thought to have.
pub(super) fn leads(led: &EncodeSpec, whole: &EncodeSpec) -> bool {
    let plain = |mut spec: EncodeSpec| {
        (spec.set, spec.threads, spec.hold_frames, spec.deadline_seconds) = (whole.set, 1, 0, 0);
        spec.grid.frames = 0;
        spec.rungs.iter_mut().for_each(|rung| rung.grid.frames = 0);
        spec
    };
    // Where all is one segment, the plan would be left without the rung that was led.
    whole.grid.segments() > 1 && plain(led.clone()) == plain(lead(whole, 1))
}

/// What the lead makes, the first chunk need not.
fn leave_to(lead: &EncodeSpec, chunk: &mut EncodeSpec) {
    let only_segment = chunk.span().frames <= lead.span().frames;
    let led = |rung: &EncodeRung| lead.rungs.iter().any(|known| known.name == rung.name);
    if only_segment {
        chunk.rungs.retain(|rung| !led(rung));
    } else {
        chunk.rungs.iter_mut().filter(|rung| led(rung)).for_each(|rung| rung.skip_segments = 1);
    }
}

/// A chunk is at least this share of the longest time between keyframes, where nobody set its length: each that begins there decodes
/// everything from the keyframe on.
const LEAST_SHARE_OF_GAP: f64 = 0.25;

/// Cuts the picture into chunks: as many as there are free slots, within the lengths that are worth it. `gap` is the longest time between
/// keyframes of the source, in seconds.
fn chunks(grid: &Grid, end_seconds: f64, gap: f64, leads: bool, circumstances: &Circumstances) -> Vec<Span> {
    let segment = grid.rate.seconds(grid.segment_frames());
    let length = circumstances.chunk_seconds.unwrap_or_else(|| {
        (grid.duration() / f64::from(circumstances.free_slots.max(1)))
            .clamp(SHORTEST_CHUNK_SECONDS, LONGEST_CHUNK_SECONDS)
            .max(gap * LEAST_SHARE_OF_GAP)
    });
    let segments = (length / segment).round().max(1.0) as u64;
    let many = grid.duration() / length > f64::from(circumstances.free_slots.max(1)) + 1.0;
    // Who watches already waits for all of the first chunk. One that is not much shorter than the others helps only where those have to
    // wait for a slot.
    let helps = |first: u64| first < segments && (many || 2 * first < segments);
    let first = FIRST_CHUNKS.into_iter().filter(|first| leads && helps(*first));
    let decodable = grid.rate.frames_in(end_seconds);
    let half = (segments / 2).max(1);
    if !many || (half as f64 * segment) < SHORTEST_CHUNK_SECONDS.max(gap * LEAST_SHARE_OF_GAP) {
        return grid.spans(first.chain(std::iter::repeat(segments)), decodable);
    }
    // Slots become free at different times: the last chunks are short, so that none works long when the others are idle.
    let mut begun = first.clone().sum::<u64>();
    let rest = std::iter::repeat_with(move || {
        let length =
            if grid.segments().saturating_sub(begun) > LAST_CHUNKS * segments { segments } else { half };
        begun += length;
        length
    });
    grid.spans(first.chain(rest), decodable)
}
