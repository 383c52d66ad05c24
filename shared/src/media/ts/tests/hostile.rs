//! What cannot be carried, and bytes nobody meant.

use proptest::prelude::*;

use super::*;
use crate::media::cmaf::tests::ffmpeg::{H264, VIDEO};
use crate::media::cmaf::tests::round_trip::file;

#[test]
fn what_mpeg_ts_cannot_carry_is_refused_by_name() {
    let vp9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 30 -b:v 200k";
    if let Some(file) = encode(VIDEO, vp9) {
        let vp9 = Rendition::pictures(&file, 2, 0);
        assert!(!carries(&vp9.track.codec));
        assert_eq!(remux(0, Some(vp9.media(0)), None), Err(TsError::Codec("vp09.00.10.08".to_owned())));
    }
    if let Some(file) = encode(SOUND, "-c:a libopus -b:a 64k -frag_duration 1000000") {
        let opus = Rendition::sound(&file, 2.0, 0);
        assert!(!carries(&opus.track.codec));
        assert_eq!(remux(0, None, Some(opus.media(0))), Err(TsError::Codec("Opus".to_owned())));
    }
    for codec in ["avc1.640028", "hvc1.1.6.L93.B0", "mp4a.40.2"] {
        assert!(carries(codec), "{codec}");
    }
    for codec in ["av01.0.04M.08", "vp09.00.10.08", "mp4a.40.5", "mp4a.6b", "fLaC", "avc10", ""] {
        assert!(!carries(codec), "{codec}");
    }
}

#[test]
fn tracks_are_not_taken_for_each_other() {
    let Some(recording) = Recording::new(VIDEO, H264, 0) else { return };
    let (video, audio) = (recording.video.media(0), recording.audio.media(0));
    assert_eq!(remux(0, Some(audio), None), Err(TsError::Kind("picture")));
    assert_eq!(remux(0, None, Some(video.clone())), Err(TsError::Kind("sound")));
    assert_eq!(remux(0, None, None), Err(TsError::Empty));
    let none = |media: Media| remux(0, Some(Media { segment: Bytes::new(), ..media }), None);
    assert_eq!(none(video), Err(TsError::Empty));
}

#[test]
fn more_samples_or_time_than_any_segment_has_are_refused() {
    let Some(recording) = Recording::new(VIDEO, H264, 0) else { return };
    let sample = |duration| Sample { duration, composition_offset: 0, sync: true, data: Bytes::new() };
    let with = |samples: &[Sample], count: usize| {
        let segment = media_segment(1, 0, &vec![samples; count]);
        remux(0, Some(media(&recording.video.init, &segment.bytes)), None)
    };
    assert!(with(&[sample(1)], 1).is_ok());
    let many = vec![sample(1); 1 << 17];
    assert!(matches!(with(&many, 3), Err(TsError::TooLong(_))));
    assert!(matches!(with(&[sample(u32::MAX), sample(1)], 1), Err(TsError::TooLong(_))));
    let far = media_segment(1, u64::MAX - 1, &[&[sample(1)]]);
    let far = remux(0, Some(media(&recording.video.init, &far.bytes)), None);
    assert!(matches!(far, Err(TsError::TooLong(_))));
}

#[test]
fn damaged_segments_are_survived() {
    let Some(recording) = Recording::new(VIDEO, H264, 0) else { return };
    let (video, audio) = (&recording.video, &recording.audio);
    proptest!(ProptestConfig::with_cases(200), |(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        of in 0..4_usize,
    )| {
        let mut parts = [&video.init, &video.segments[0], &audio.init, &audio.segments[0]].map(|part| part.to_vec());
        for (place, value) in damage {
            // Mostly in the headers: in the middle of a picture it goes unnoticed.
            let place = place.index(parts[of].len().min(2000));
            parts[of][place] = value;
        }
        let [init, segment, sound_init, sound] = &parts;
        let _ = remux(0, Some(media(init, segment)), Some(media(sound_init, sound)));
    });
}

proptest! {
    #[test]
    fn random_bytes_are_survived(
        init in proptest::collection::vec(any::<u8>(), 0..300),
        segment in proptest::collection::vec(any::<u8>(), 0..300),
        (whole, _) in file(),
    ) {
        let media = |init: &[u8], segment: &[u8]| Some(media(init, segment));
        let _ = remux(0, media(&init, &segment), None);
        let _ = remux(0, None, media(&init, &segment));
        let _ = remux(0, media(&whole, &[]), None);
        let _ = remux(0, media(&whole, &segment), media(&whole, &init));
    }
}
