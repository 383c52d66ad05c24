//! What this worker can do, proven by doing it once.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use reelmill_shared::job::capability::{Capability, Pool};
use reelmill_shared::job::encoder::Encoder;
use reelmill_shared::job::quality::Metric;
use reelmill_shared::job::task::EncodeRung;
use reelmill_shared::media::cmaf::{Demuxer, Event};
use reelmill_shared::media::grid::Span;
use tokio_util::sync::CancellationToken;

use crate::ffmpeg::encoders::proof;
use crate::ffmpeg::process::{Limits, Run, run};
use crate::ffmpeg::{Programs, argv, figures};
use crate::packager::Cut;
use crate::scratch::Scratch;
use crate::tasks::VideoCut;

/// Long enough for a slow machine, short enough for a hung driver.
const PATIENCE: Duration = Duration::from_secs(20);
/// Trials at a time: most of each is the start of a program.
const AT_ONCE: usize = 4;

/// Tries what workers of `pool` may be asked for and gives what works; says of the rest why it does not.
pub(crate) async fn prove(programs: &Programs, pool: Pool, scratch: &Scratch) -> Vec<Capability> {
    let asked = [Capability::Base, Capability::Libvmaf].into_iter().chain(
        Encoder::ALL
            .iter()
            .copied()
            // Work for hardware goes to the pool that is named after it; live streams stay on the worker they come to.
            .filter(|encoder| !encoder.is_hardware() || matches!(pool, Pool::Gpu | Pool::Live))
            .map(Capability::Encoder),
    );
    let trials =
        asked.map(|capability| async move { (capability, try_out(programs, capability, scratch).await) });
    let mut proven = vec![];
    let mut tried = futures::stream::iter(trials).buffered(AT_ONCE);
    while let Some((capability, outcome)) = tried.next().await {
        match outcome {
            Ok(()) => proven.push(capability),
            // Most builds of FFmpeg are without it, and only who wants it misses it; most workers of live streams have no such hardware.
            Err(reason)
                if capability == Capability::Libvmaf || (pool == Pool::Live && is_hardware(capability)) =>
            {
                tracing::info!(%capability, reason, "this worker cannot do that");
            }
            Err(reason) => tracing::warn!(%capability, reason, "this worker cannot do that"),
        }
    }
    proven
}

fn is_hardware(capability: Capability) -> bool {
    capability.encoder().is_some_and(Encoder::is_hardware)
}

async fn try_out(programs: &Programs, capability: Capability, scratch: &Scratch) -> Result<(), String> {
    let dir = scratch.attempt(&format!("proof-{capability}")).map_err(|error| error.to_string())?;
    let outcome = match capability {
        Capability::Base => sounds(&programs.ffmpeg, &dir).await,
        Capability::Encoder(encoder) => encodes(&programs.ffmpeg, encoder, &dir).await,
        Capability::Libvmaf => measures(&programs.ffmpeg, Metric::Vmaf, &dir).await,
    };
    // It goes with the worker's at the latest.
    let _ = tokio::fs::remove_dir_all(&dir).await;
    outcome
}

async fn sounds(ffmpeg: &Path, dir: &Path) -> Result<(), String> {
    let args = ["-nostdin", "-hide_banner", "-loglevel", "error"];
    let sound = [
        "-f",
        "lavfi",
        "-i",
        "anullsrc=r=48000:cl=stereo",
        "-frames:a",
        "2",
        "-c:a",
        "aac",
        "-f",
        "null",
        "-",
    ];
    let args: Vec<OsString> = args.into_iter().chain(sound).map(OsString::from).collect();
    ffmpeg_succeeds(ffmpeg, &args, dir, Limits::standard(PATIENCE, 1)).await
}

/// Not only that it encodes: that it keeps to the grid, as the packager will want it.
async fn encodes(ffmpeg: &Path, encoder: Encoder, dir: &Path) -> Result<(), String> {
    let limits = Limits::standard(PATIENCE, 1);
    let limits = if encoder.is_hardware() { limits.with_drivers() } else { limits };
    for rung in proof::rungs(encoder) {
        let file = dir.join("proof.mp4");
        ffmpeg_succeeds(ffmpeg, &proof::command(&rung, &file), dir, limits).await?;
        let bytes = tokio::fs::read(&file).await.map_err(|error| error.to_string())?;
        keeps_to_the_grid(&rung, &bytes)?;
    }
    Ok(())
}

/// Not only that the filter is there: that its model is too, and that what it says can be read.
async fn measures(ffmpeg: &Path, metric: Metric, dir: &Path) -> Result<(), String> {
    let file = argv::figures_file(metric, 0);
    let (args, frames) = argv::comparison(metric, &file);
    ffmpeg_succeeds(ffmpeg, &args, dir, Limits::standard(PATIENCE, 1)).await?;
    match figures::read(&dir.join(file), metric, frames).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("FFmpeg's figures for {metric} do not read")),
        Err(error) => Err(error.message),
    }
}

fn keeps_to_the_grid(rung: &EncodeRung, file: &[u8]) -> Result<(), String> {
    let mut demuxer = Demuxer::new(file.len());
    demuxer.push(file);
    let (mut track, mut cut) = (None, VideoCut::new(rung, Span::whole(&rung.grid)));
    while let Some(event) = demuxer.next().map_err(|error| error.to_string())? {
        match (event, &track) {
            (Event::Track(found), _) => track = Some(found),
            (Event::Fragment(fragment), Some(track)) => {
                cut.take(track, fragment.samples).map_err(|error| error.message)?;
            }
            (Event::Fragment(_), None) => return Err("a fragment before moov".to_owned()),
        }
    }
    cut.finish().map(drop).map_err(|error| error.message)
}

async fn ffmpeg_succeeds(ffmpeg: &Path, args: &[OsString], dir: &Path, limits: Limits) -> Result<(), String> {
    let job = Run { program: ffmpeg, args, dir, deadline: PATIENCE, stall: PATIENCE, limits };
    match run(job, &CancellationToken::new(), |_| {}).await {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => Err(ended.log_tail.trim().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use reelmill_shared::ids::WorkerId;

    use super::*;

    #[tokio::test]
    async fn software_is_proven_and_hardware_only_where_it_works() {
        let root = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(root.path(), WorkerId::new()).unwrap();
        let programs = Programs::find().unwrap();
        let here = prove(&programs, Pool::Cpu, &scratch).await;
        let filters = std::process::Command::new(&programs.ffmpeg).args(["-v", "error", "-filters"]).output();
        let filters = String::from_utf8(filters.unwrap().stdout).unwrap();
        let has_vmaf = filters.split_whitespace().any(|word| word == "libvmaf");
        let software: Vec<Capability> = std::iter::once(Capability::Base)
            .chain(has_vmaf.then_some(Capability::Libvmaf))
            .chain(
                reelmill_shared::media::codec::Codec::ALL
                    .map(|codec| Capability::Encoder(Encoder::software(codec))),
            )
            .collect();
        assert_eq!(here, software);

        let on_gpu = prove(&programs, Pool::Gpu, &scratch).await;
        assert!(on_gpu.starts_with(&software));
        // Without a device node there is nothing a driver could have opened.
        if !["/dev/dri", "/dev/nvidiactl", "/dev/dxg"].iter().any(|node| Path::new(node).exists()) {
            assert_eq!(on_gpu, software);
            let why =
                try_out(&programs, Capability::Encoder(Encoder::H264Nvenc), &scratch).await.unwrap_err();
            assert!(!why.is_empty());
            println!("h264_nvenc: {why}");
        }
    }

    #[tokio::test]
    async fn a_gop_of_another_length_is_no_proof() {
        let root = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(root.path(), WorkerId::new()).unwrap();
        let rung = proof::rungs(Encoder::Libx264).remove(0);
        let file = root.path().join("proof.mp4");
        let mut args = proof::command(&rung, &file);
        let gop = args.iter().position(|arg| arg == "-g").unwrap();
        args[gop + 1] = "5".into();
        let ffmpeg = Programs::find().unwrap().ffmpeg;
        let dir = scratch.attempt("wrong").unwrap();
        ffmpeg_succeeds(&ffmpeg, &args, &dir, Limits::standard(PATIENCE, 1)).await.unwrap();
        let why = keeps_to_the_grid(&rung, &std::fs::read(&file).unwrap()).unwrap_err();
        assert!(why.contains("not what was planned"), "{why}");
    }

    /// An FFmpeg that runs this for every command.
    fn stand_in(dir: &Path, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let file = dir.join("ffmpeg");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[tokio::test]
    async fn a_metric_is_proven_by_figures_that_read() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        let ffmpeg = Programs::find().unwrap().ffmpeg;
        for metric in Metric::EVERYWHERE {
            measures(&ffmpeg, *metric, dir).await.unwrap();
        }
        let frame = |n: u32| format!(r#"{{"frameNum": {n}, "metrics": {{"vmaf": 9{n}.5}}}}"#);
        let log = |frames: &[String]| format!(r#"{{"frames": [{}]}}"#, frames.join(","));
        let writing = |text: &str| stand_in(dir, &format!("echo '{text}' > vmaf-0.txt"));
        measures(&writing(&log(&[frame(0), frame(1)])), Metric::Vmaf, dir).await.unwrap();
        let why = measures(&writing(&log(&[frame(0)])), Metric::Vmaf, dir).await.unwrap_err();
        assert!(why.contains("do not read"), "a frame is missing: {why}");
        let refusing = stand_in(dir, "echo \"No such filter: 'libvmaf'\" >&2; exit 1");
        let why = measures(&refusing, Metric::Vmaf, dir).await.unwrap_err();
        assert!(why.contains("No such filter"), "{why}");
    }
}
