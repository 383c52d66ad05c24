//! Figures that are true, and a ladder that suits its source.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reelmill_testkit::wait::until;
use reelmill_testkit::{Farm, media};
use serde_json::{Value, json};

use crate::judge::{Expected, Rung, failed_for_good, watch};
use crate::support::{pointers, text};

/// Segments of two seconds and chunks of four: many seams in little footage.
async fn farm() -> Farm {
    Farm::builder().set("REELMILL_CHUNK_SECONDS", 4).start().await
}

/// Two rungs, the lower at a lower rate.
fn profile() -> Value {
    json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "large", "width": 640, "height": 360, "crf": 24, "max_bitrate": 1_200_000},
        {"name": "small", "width": 320, "height": 180, "crf": 24, "max_bitrate": 400_000, "max_frame_rate": 10},
    ]})
}

async fn ended(farm: &Farm, source: &Path, wishes: Value) -> Value {
    let upload = farm.client.upload(source).await;
    let mut body = json!({"kind": "transcode", "input": {"upload_id": upload}, "profile": profile()});
    body.as_object_mut().unwrap().extend(wishes.as_object().unwrap().clone());
    let job = farm.client.post("/jobs", &body).await;
    farm.client.wait_for(text(&job, "id")).await
}

/// What the farm's only worker measures where nothing is named.
async fn measurable(farm: &Farm) -> Vec<&'static str> {
    let workers = farm.client.get("/workers").await;
    let capabilities = workers["workers"][0]["capabilities"].as_array().unwrap();
    let vmaf = capabilities.contains(&json!("libvmaf"));
    ["psnr", "ssim"].into_iter().chain(vmaf.then_some("vmaf")).collect()
}

/// What FFmpeg itself says of two files: its averages of PSNR and SSIM.
fn directly(made: &Path, source: &Path, to_reference: &str) -> (f64, f64) {
    let graph = format!(
        "[0:v]format=yuv420p,settb=1/1000,setpts=N,split[a][b];[1:v]{to_reference},settb=1/1000,setpts=N,split[c][d];\
         [a][c]psnr=shortest=1[p];[b][d]ssim=shortest=1[s]"
    );
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-hide_banner", "-i"])
        .arg(made)
        .arg("-i")
        .arg(source)
        .args(["-filter_complex", &graph, "-map", "[p]", "-map", "[s]", "-fps_mode", "passthrough"])
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let figure = |line: &str, name: &str| {
        let found = log.lines().find(|text| text.contains(line)).and_then(|text| text.split(name).nth(1));
        let word = found.and_then(|rest| rest.split_whitespace().next());
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {name} in {log}"))
    };
    (figure("] PSNR ", "average:"), figure("] SSIM ", "All:"))
}

#[tokio::test]
async fn media_quality_is_what_ffmpeg_says_of_the_whole() {
    let Some(footage) = media::footage() else { return };
    let farm = farm().await;
    let source = footage.join("bbb-trailer-360p25-vp8-vorbis.webm");
    let job = ended(&farm, &source, json!({"quality": true})).await;
    assert_eq!(job["status"], "succeeded", "{}", job["error"]);
    let tasks = job["tasks"].as_array().unwrap();
    let count = |kind: &str| tasks.iter().filter(|task| task["kind"] == kind).count();
    assert!(count("quality") > 6 && count("report") == 1, "it was cut: {} spans", count("quality"));

    let metrics = measurable(&farm).await;

    let mut expected = Expected::video((25, 1), 812, &[("large", 640, 360)]).sound(44_100);
    expected.rungs.push(Rung {
        name: "small".into(),
        size: (320, 180),
        rate: (10, 1),
        frames: 325,
        codec: "h264",
    });
    let recording = farm.client.get(&format!("/recordings/{}", text(&job, "recording_id"))).await;
    let played = watch(&farm.client, &recording, &expected).await;
    let on_grid = "fps=25:start_time=0,tpad=stop_mode=clone:stop=5";
    let references = [
        format!("{on_grid},scale=640:360:flags=bicubic,format=yuv420p"),
        format!("{on_grid},fps=10:start_time=0,scale=320:180:flags=bicubic,format=yuv420p"),
    ];
    let told = job["result"]["quality"]["renditions"].as_array().unwrap();
    assert_eq!(told.len(), 2);
    for ((told, track), reference) in told.iter().zip(&played.video).zip(references) {
        assert_eq!(told["name"], track.name.as_str());
        let (psnr, ssim) = directly(&track.file, &source, &reference);
        let mean = |metric: &str| told[metric]["mean"].as_f64().unwrap();
        println!("{}: {} and {psnr} dB, {} and {ssim}", track.name, mean("psnr"), mean("ssim"));
        assert!((mean("psnr") - psnr).abs() < 0.01, "{} is {psnr} dB: {told}", track.name);
        assert!((mean("ssim") - ssim).abs() < 0.0005, "{} is {ssim}: {told}", track.name);
        assert_eq!(told.as_object().unwrap().len(), 1 + metrics.len(), "{told}");
        if metrics.contains(&"vmaf") {
            assert!((0.0..=100.0).contains(&mean("vmaf")), "{told}");
        }
        for metric in ["psnr", "ssim"] {
            let summary = &told[metric];
            let worst = summary["worst_segments"].as_array().unwrap();
            assert_eq!(worst.len(), 3);
            let values: Vec<f64> = worst.iter().map(|segment| segment["value"].as_f64().unwrap()).collect();
            assert!(values.is_sorted() && values[0] < mean(metric), "worst first: {summary}");
            assert!(summary["min"].as_f64().unwrap() <= values[0], "{summary}");
            for segment in worst {
                let number = segment["number"].as_u64().unwrap();
                let start = track.starts()[number as usize];
                assert!((segment["start"].as_f64().unwrap() - start).abs() < 0.001, "{summary}");
            }
            // The worst segment alone, as FFmpeg sees it.
            let number = worst[0]["number"].as_u64().unwrap() as usize;
            let (begin, length) = (track.starts()[number], track.lengths[number]);
            let part = format!("{reference},trim=start={:.3}:end={:.3}", begin - 0.01, begin + length - 0.01);
            let (psnr, ssim) = directly(&track.pieces[number], &source, &part);
            let (alone, off) = if metric == "psnr" { (psnr, 0.01) } else { (ssim, 0.0005) };
            assert!((values[0] - alone).abs() < off, "segment {number} has {alone}: {summary}");
        }
    }
    farm.stop().await;
}

/// What is cut off, added and laid on is in both pictures that are compared, and frames meet those they were made from.
#[tokio::test]
async fn media_quality_compares_what_was_edited() {
    let farm = farm().await;
    let dir = farm.dir.path();
    let clip = media::clip(dir, 20, "640x360");
    let image = dir.join("mark.png");
    let made = ["-v", "error", "-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1"];
    assert!(Command::new("ffmpeg").args(made).arg(&image).status().unwrap().success());
    let mark = farm.client.upload(&image).await;
    let stream = dir.join("clip.ts");
    let copied = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&clip)
        .args(["-c", "copy"])
        .arg(&stream)
        .status();
    assert!(copied.unwrap().success());
    let edit = json!({
        "start": 4.48, "end": 14.48, "crop": {"left": 160}, "pad": "16:9",
        "watermark": {"upload_id": mark, "corner": "top_left", "width": 0.2},
    });
    for (source, edit) in [(&clip, edit), (&stream, json!({}))] {
        let wishes = json!({"edit": edit, "quality": {"metrics": ["psnr"], "min_psnr": 25}});
        let job = ended(&farm, source, wishes).await;
        assert_eq!(job["status"], "succeeded", "{}", job["error"]);
        for rendition in job["result"]["quality"]["renditions"].as_array().unwrap() {
            // One frame off, this clip has less than 25 dB.
            assert!(rendition["psnr"]["min"].as_f64().unwrap() > 25.0, "{rendition}");
            assert!(rendition["ssim"].is_null());
        }
    }
    farm.stop().await;
}

#[tokio::test]
async fn media_quality_can_fail_a_job_for_good() {
    let farm = farm().await;
    let clip = media::clip(farm.dir.path(), 6, "640x360");
    let job = ended(&farm, &clip, json!({"quality": {"min_psnr": 99, "min_ssim": 0.1}})).await;
    failed_for_good(&farm.client, &job, &["quality"]).await;
    let message = text(&job["error"], "message");
    for part in
        ["large has a PSNR of ", "small has a PSNR of ", "at least 99.00 dB were asked for", "segment"]
    {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(!message.contains("SSIM"), "{message}");
    let told = &job["result"]["quality"]["renditions"][0]["psnr"]["mean"];
    assert!(message.contains(&format!("large has a PSNR of {:.2} dB", told.as_f64().unwrap())), "{message}");

    let upload = farm.client.upload(&clip).await;
    let wrong = json!({
        "kind": "transcode", "input": {"upload_id": upload}, "quality": {"metrics": ["sharpness"], "min_ssim": 2},
    });
    let (status, body) = farm.client.try_post("/jobs", &wrong).await;
    assert_eq!((status.as_u16(), pointers(&body)), (422, vec!["/quality/metrics/0", "/quality/min_ssim"]));
    farm.stop().await;
}

/// Where nobody can measure it, it is refused; where somebody says he can, it waits for him.
#[tokio::test]
async fn media_quality_by_vmaf_needs_a_worker_that_has_it() {
    let farm = farm().await;
    if measurable(&farm).await.contains(&"vmaf") {
        return farm.stop().await;
    }
    let clip = media::clip(farm.dir.path(), 6, "640x360");
    let upload = farm.client.upload(&clip).await;
    let wish = |quality: Value| json!({"kind": "transcode", "input": {"upload_id": upload}, "profile": profile(), "quality": quality});
    for (quality, pointer) in [
        (json!({"metrics": ["psnr", "vmaf"], "min_vmaf": 80}), "/quality/metrics/1"),
        (json!({"min_vmaf": 80}), "/quality/min_vmaf"),
    ] {
        let (status, body) = farm.client.try_post("/jobs", &wish(quality)).await;
        assert_eq!((status.as_u16(), pointers(&body)), (422, vec![pointer]));
        assert!(body.to_string().contains("no worker's FFmpeg was built with libvmaf"), "{body}");
    }

    let db = farm.database.connect().await;
    let declared = "insert into workers (id, name, pool, slots, capabilities, version)
                    values (gen_random_uuid(), 'declared', 'cpu', 1, array['base', 'libvmaf'], '0')";
    db.batch_execute(declared).await.unwrap();
    let job = farm.client.post("/jobs", &wish(json!(true))).await;
    let id = text(&job, "id");
    until("the report to be all that is missing", Duration::from_secs(60), || async {
        let job = farm.client.get(&format!("/jobs/{id}")).await;
        let tasks = job["tasks"].as_array().unwrap();
        let open: Vec<&str> = tasks
            .iter()
            .filter(|task| task["status"] != "succeeded")
            .map(|task| text(task, "kind"))
            .collect();
        (open.contains(&"report") && open.iter().all(|kind| ["quality", "report"].contains(kind)))
            .then_some(())
    })
    .await;
    let waiting = "select distinct class, status, attempts from tasks where kind = 'quality'";
    let waiting = db.query_one(waiting, &[]).await.unwrap();
    assert_eq!(
        (waiting.get::<_, &str>(0), waiting.get::<_, &str>(1), waiting.get::<_, i32>(2)),
        ("libvmaf", "ready", 0),
        "nobody without it takes them"
    );
    farm.client.post(&format!("/jobs/{id}/cancel"), &json!({})).await;
    farm.stop().await;
}

/// Pictures that stand still for eight seconds each, and pure noise.
fn sources(dir: &Path) -> [PathBuf; 2] {
    let slide = |name: &str| format!("{name}=s=1280x720:r=25:d=8,format=yuv420p");
    let (one, two, three) = (slide("smptehdbars"), slide("pal75bars"), slide("smptebars"));
    let slides = format!("{one}[a];{two}[b];{three}[c];[a][b][c]concat=n=3");
    let noise = "testsrc2=s=1280x720:r=25:d=24,noise=alls=60:allf=t,format=yuv420p".to_owned();
    [("slides.mp4", slides), ("noise.mp4", noise)].map(|(name, graph)| {
        let file = dir.join(name);
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-filter_complex", &graph, "-c:v", "libx264", "-preset", "ultrafast"])
            .args(["-crf", "18"])
            .arg(&file)
            .status()
            .unwrap();
        assert!(made.success(), "{name}");
        file
    })
}

#[tokio::test]
async fn media_quality_ladder_suits_the_source() {
    let farm = Farm::builder().start().await;
    let [slides, noise] = sources(farm.dir.path());
    let ladder = json!({"segment_duration": 2, "preset": "veryfast", "rungs": [
        {"name": "720p", "width": 1280, "height": 720, "crf": 24, "max_bitrate": 3_000_000},
        {"name": "540p", "width": 960, "height": 540, "crf": 24, "max_bitrate": 2_000_000},
        {"name": "360p", "width": 640, "height": 360, "crf": 24, "max_bitrate": 900_000},
    ]});
    let wishes = json!({"profile": ladder, "ladder": "auto"});
    let mut verdicts = vec![];
    for (source, decisions) in [
        (&slides, ["capped", "dropped", "kept"]),
        (&noise, ["kept", "kept", "kept"]),
        (&slides, ["capped", "dropped", "kept"]),
    ] {
        let job = ended(&farm, source, wishes.clone()).await;
        assert_eq!(job["status"], "succeeded", "{}", job["error"]);
        let told = &job["result"]["ladder"];
        println!("{told:#}");
        let rungs = told["rungs"].as_array().unwrap();
        let words: Vec<&str> = rungs.iter().map(|rung| text(rung, "decision")).collect();
        assert_eq!(words, decisions, "{told}");
        assert!(rungs.iter().all(|rung| text(rung, "reason").len() > 20));
        assert_eq!(told["samples"], json!([4.0, 12.0, 20.0]));
        // What is played is what was decided.
        let made: Vec<&str> = rungs
            .iter()
            .filter(|rung| rung["decision"] != "dropped")
            .map(|rung| text(rung, "name"))
            .collect();
        let sizes = [("720p", 1280, 720), ("540p", 960, 540), ("360p", 640, 360)];
        let kept: Vec<(&str, u64, u64)> =
            sizes.into_iter().filter(|(name, ..)| made.contains(name)).collect();
        let recording = farm.client.get(&format!("/recordings/{}", text(&job, "recording_id"))).await;
        watch(&farm.client, &recording, &Expected::video((25, 1), 600, &kept)).await;
        let planned = job["result"]["plan"]["renditions"].as_array().unwrap();
        let best = planned.iter().find(|rendition| rendition["name"] == "720p").unwrap();
        let ceiling = rungs[0]["max_bitrate"].as_u64().unwrap_or(3_000_000);
        assert_eq!(best["bitrate"], ceiling);
        verdicts.push(told.clone());
    }
    assert_eq!(verdicts[0], verdicts[2], "the same source gets the same ladder");

    let clip = media::clip(farm.dir.path(), 5, "640x360");
    let short = ended(&farm, &clip, json!({"ladder": "auto"})).await;
    assert_eq!(short["status"], "succeeded", "{}", short["error"]);
    assert!(text(&short["result"]["ladder"], "skipped").contains("short"), "{}", short["result"]);
    assert_eq!(short["result"]["plan"]["renditions"].as_array().unwrap().len(), 3);
    farm.stop().await;
}
