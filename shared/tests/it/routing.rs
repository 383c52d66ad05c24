//! Work that not every worker can do goes to those that have proven it, and to nobody else.

use reelmill_shared::broker::Ring;
use reelmill_shared::db::tasks::Claimant;
use reelmill_shared::db::workers::{self, Registration, WorkerState};
use reelmill_shared::ids::{RecordingId, WorkerId};
use reelmill_shared::job::capability::{Capability, Pool};
use reelmill_shared::job::encoder::{Encoder, Gpus};
use reelmill_shared::job::plan::{self, Circumstances, NewTask};
use reelmill_shared::job::quality::{Least, Metric, QualityWish};
use reelmill_shared::job::spec::{JobSpec, Output};
use reelmill_shared::job::task::{TaskKind, TaskSpec};
use reelmill_shared::media::grid::Rate;
use reelmill_shared::media::probe::{Probe, Transfer, UnsaidColours, VideoStream};
use reelmill_shared::media::profile::Profile;
use serde_json::json;

use crate::fixture::{Fixture, claimant, spec};

#[tokio::test]
async fn hardware_is_preferred_where_it_is_and_awaited_where_it_is_required() {
    let fixture = Fixture::new().await;
    let project = fixture.project("default").await;
    let card = card(&fixture).await;
    let gpus = workers::gpus(&fixture.db).await.unwrap();
    assert_eq!(gpus.here, [Encoder::H264Nvenc]);

    let (preferring, encodes) = planned("prefer_gpu", gpus);
    let queues: Vec<_> = encodes.iter().map(|task| Ring::from(task).queue()).collect();
    let told: Vec<_> = queues.iter().map(|queue| (queue.pool, queue.capability.as_str())).collect();
    assert_eq!(told, [(Pool::Gpu, "h264_nvenc"), (Pool::Cpu, "libx265")]);
    fixture.job_of(project, 50, preferring, encodes).await;

    let another = Claimant { capabilities: words(&["base", "h264_vaapi"]), ..card.clone() };
    assert!(fixture.claim(&another).await.is_none(), "it never proved that encoder");
    let TaskSpec::Encode(on_card) = fixture.claim(&card).await.unwrap().spec else { panic!() };
    assert_eq!(on_card.rungs.iter().map(|rung| rung.encoder).collect::<Vec<_>>(), [Encoder::H264Nvenc]);
    assert!(fixture.claim(&card).await.is_none(), "software is for the other pool");
    assert!(fixture.claim(&claimant()).await.is_none(), "it has libx264 only");
    let software = Claimant { capabilities: words(&["base", "libx264", "libx265"]), ..claimant() };
    let TaskSpec::Encode(on_cpu) = fixture.claim(&software).await.unwrap().spec else { panic!() };
    assert_eq!(on_cpu.rungs.iter().map(|rung| rung.position).collect::<Vec<_>>(), [1]);

    // The card is gone: who only prefers it does without, who requires it waits for its like.
    workers::touch(&fixture.db, card.worker_id, WorkerState::Gone).await.unwrap();
    let gpus = workers::gpus(&fixture.db).await.unwrap();
    assert_eq!((gpus.here.as_slice(), gpus.known.as_slice()), (&[][..], &[Encoder::H264Nvenc][..]));
    let (_, encodes) = planned("prefer_gpu", gpus.clone());
    assert!(encodes.iter().all(|task| task.pool == Pool::Cpu));
    let (requiring, mut encodes) = planned("require_gpu", gpus);
    encodes.retain(|task| task.spec.class().to_string() == "h264_nvenc");
    assert_eq!(encodes.len(), 1);
    fixture.job_of(project, 50, requiring, encodes).await;
    assert!(fixture.claim(&software).await.is_none(), "no worker of the other pool takes it");
    assert!(fixture.claim(&card).await.is_some(), "it waited");
    fixture.done().await;
}

#[tokio::test]
async fn vmaf_is_measured_by_who_has_libvmaf() {
    let fixture = Fixture::new().await;
    let project = fixture.project("default").await;
    let has = async |pool| workers::any_has(&fixture.db, pool, Capability::Libvmaf).await.unwrap();
    let id = WorkerId::new();
    let capabilities = words(&["base", "libvmaf", "libx264"]);
    let measurer = Registration {
        id,
        name: "measurer",
        pool: "cpu",
        slots: 1,
        capabilities: &capabilities,
        version: "0",
    };
    assert!(!has(Pool::Cpu).await);
    workers::register(&fixture.db, &measurer).await.unwrap();
    assert!(has(Pool::Cpu).await && !has(Pool::Gpu).await, "it is asked for nothing in the other pool");
    let measurer = Claimant { worker_id: id, capabilities, ..claimant() };

    let measuring = |metrics: &[Metric]| {
        let wish = QualityWish { metrics: metrics.to_vec(), least: Least::default() };
        let spec = JobSpec { quality: Some(wish), ..spec() };
        let plan = plan_of(&spec, Gpus::default());
        let compare = plan.into_iter().find(|task| task.spec.kind() == TaskKind::Quality).unwrap();
        // As if all it waits for were done.
        (spec, NewTask { blocked_by: 0, unblocks: vec![], ..compare })
    };
    let (spec, compare) = measuring(Metric::ALL);
    assert_eq!(Ring::from(&compare).queue().capability, "libvmaf");
    fixture.job_of(project, 50, spec, vec![compare]).await;
    assert!(fixture.claim(&claimant()).await.is_none(), "it never proved libvmaf");
    workers::touch(&fixture.db, id, WorkerState::Gone).await.unwrap();
    assert!(!has(Pool::Cpu).await, "nobody new is promised what is gone");
    let TaskSpec::Quality(claimed) = fixture.claim(&measurer).await.unwrap().spec else { panic!() };
    assert_eq!(claimed.metrics, Metric::ALL);

    let (spec, compare) = measuring(Metric::EVERYWHERE);
    assert_eq!(Ring::from(&compare).queue().capability, "base");
    fixture.job_of(project, 50, spec, vec![compare]).await;
    assert!(fixture.claim(&claimant()).await.is_some(), "anybody measures the others");
    fixture.done().await;
}

/// The lead before the poster: what a viewer waits for comes first in the plan.
#[tokio::test]
async fn a_plan_is_taken_in_its_order_whatever_the_classes() {
    let fixture = Fixture::new().await;
    let project = fixture.project("default").await;
    let spec = JobSpec { outputs: vec![Output::Hls, Output::Thumbnail], ..spec() };
    let ready = plan_of(&spec, Gpus::default()).into_iter().filter(|task| task.blocked_by == 0);
    let ready: Vec<NewTask> = ready.map(|task| NewTask { unblocks: vec![], ..task }).collect();
    let classes: Vec<String> = ready.iter().map(|task| task.spec.class().to_string()).collect();
    assert_eq!(classes, ["libx264", "base"]);
    let order: Vec<_> = ready.iter().map(|task| task.id).collect();
    fixture.job_of(project, 50, spec, ready).await;
    for id in order {
        assert_eq!(fixture.claim(&claimant()).await.unwrap().hold.task_id, id);
    }
    fixture.done().await;
}

#[tokio::test]
async fn what_workers_have_together_is_told_of_those_that_are_there() {
    let fixture = Fixture::new().await;
    for capabilities in
        [&["base", "libx264", "libx265"][..], &["libx264", "libsvtav1", "newer", "h264_vaapi"]]
    {
        let capabilities = words(capabilities);
        for name in ["one", "another"] {
            let id = WorkerId::new();
            let told =
                Registration { id, name, pool: "cpu", slots: 1, capabilities: &capabilities, version: "0" };
            workers::register(&fixture.db, &told).await.unwrap();
        }
    }
    let mixes = workers::mixes(&fixture.db).await.unwrap();
    let (x264, x265, av1) = (Encoder::Libx264, Encoder::Libx265, Encoder::Libsvtav1);
    assert_eq!(mixes.len(), 2, "{mixes:?}");
    assert!(mixes.contains(&vec![x264, x265]) && mixes.contains(&vec![x264, av1]), "{mixes:?}");
    fixture.execute("update workers set state = 'gone' where 'libsvtav1' = any(capabilities)").await;
    assert_eq!(workers::mixes(&fixture.db).await.unwrap(), [[x264, x265]]);
    fixture.done().await;
}

/// A worker that says it has proven NVENC.
async fn card(fixture: &Fixture) -> Claimant {
    let id = WorkerId::new();
    let capabilities = words(&["base", "libx264", "h264_nvenc", "something_newer"]);
    let registration =
        Registration { id, name: "card", pool: "gpu", slots: 1, capabilities: &capabilities, version: "0" };
    workers::register(&fixture.db, &registration).await.unwrap();
    // Only hardware of the pool counts, and what this program knows.
    let known = workers::gpus(&fixture.db).await.unwrap().known;
    assert!(known.iter().all(|encoder| encoder.is_hardware()), "{known:?}");
    assert!(workers::mixes(&fixture.db).await.unwrap().is_empty(), "nor does it do what the others do");
    Claimant { worker_id: id, pool: Pool::Gpu, capabilities, ..claimant() }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The encodes of a ladder of two codecs.
fn planned(hardware: &str, gpus: Gpus) -> (JobSpec, Vec<NewTask>) {
    let profile = json!({"hardware": hardware, "audio": null, "rungs": [
        {"name": "h264", "width": 640, "height": 360, "crf": 24, "max_bitrate": 800_000},
        {"name": "hevc", "width": 640, "height": 360, "codec": "hevc", "crf": 28, "max_bitrate": 500_000},
    ]});
    let spec = JobSpec { profile: Some(Profile::from_json(&profile).unwrap()), ..spec() };
    let is_encode = |task: &NewTask| matches!(task.spec, TaskSpec::Encode(_));
    let encodes: Vec<NewTask> = plan_of(&spec, gpus).into_iter().filter(is_encode).collect();
    // Without the finish they unblock.
    (spec, encodes.into_iter().map(|task| NewTask { unblocks: vec![], ..task }).collect())
}

/// The tasks of a job with a short source.
fn plan_of(spec: &JobSpec, gpus: Gpus) -> Vec<NewTask> {
    let circumstances = Circumstances {
        max_duration_seconds: 3600.0,
        free_slots: 1,
        encode_threads: None,
        chunk_seconds: None,
        gpus,
        mixes: vec![],
    };
    let plan = plan::transcode(
        spec,
        spec.source,
        RecordingId::new(),
        &probe(),
        plan::Settled::default(),
        &circumstances,
    );
    plan.unwrap().tasks
}

fn probe() -> Probe {
    Probe {
        format: "mov,mp4,m4a,3gp,3g2,mj2".into(),
        duration_seconds: 6.0,
        size_bytes: 1,
        bitrate: None,
        video: Some(VideoStream {
            index: 0,
            codec: "h264".into(),
            width: 1280,
            height: 720,
            sample_aspect: (1, 1),
            rotation: 0,
            display_matrix: false,
            pixel_format: "yuv420p".into(),
            interlaced: false,
            transfer: Transfer::Sdr,
            unsaid_colours: UnsaidColours::default(),
            rate: Rate { num: 25, den: 1 },
            variable_rate: false,
            end_seconds: 6.0,
            packets: 150,
            keyframe_gap_seconds: 2.0,
        }),
        audio: vec![],
        subtitles: 0,
        text: vec![],
        tags: std::collections::BTreeMap::new(),
        warnings: vec![],
    }
}
