//! Playlists, as text and as another parser reads them.

use m3u8_rs::{ClosedCaptionGroupId, MediaPlaylistType, QuotedOrUnquoted};

use super::*;

fn variant() -> Variant {
    Variant {
        uri: "720p/media.m3u8".to_owned(),
        bandwidth: 3_128_000,
        average_bandwidth: Some(2_500_000),
        codecs: vec!["avc1.64001f".to_owned(), "mp4a.40.2".to_owned()],
        resolution: Some((1280, 720)),
        frame_rate: Some((30000, 1001)),
        audio_group: Some("aac".to_owned()),
        subtitle_group: Some("text".to_owned()),
        name: "720p".to_owned(),
    }
}

fn rendition() -> AudioRendition {
    AudioRendition {
        group: "aac".to_owned(),
        name: "English".to_owned(),
        language: Some("en".to_owned()),
        uri: "audio/media.m3u8".to_owned(),
        channels: 2,
        default: true,
        autoselect: false,
        characteristics: None,
    }
}

fn subtitles() -> SubtitleRendition {
    SubtitleRendition {
        group: "text".to_owned(),
        name: "Deutsch".to_owned(),
        language: Some("de".to_owned()),
        uri: "text/media.m3u8".to_owned(),
        autoselect: true,
        forced: true,
        characteristics: Some("public.easy-to-read"),
    }
}

fn iframes() -> IframeVariant {
    IframeVariant {
        uri: "720p/iframes.m3u8".to_owned(),
        bandwidth: 250_000,
        average_bandwidth: 200_000,
        codec: "avc1.64001f".to_owned(),
        resolution: (1280, 720),
    }
}

fn parse_master(playlist: &MasterPlaylist) -> m3u8_rs::MasterPlaylist {
    m3u8_rs::parse_master_playlist_res(playlist.render().as_bytes()).unwrap()
}

fn parse_media(playlist: &MediaPlaylist) -> m3u8_rs::MediaPlaylist {
    m3u8_rs::parse_media_playlist_res(playlist.render().as_bytes()).unwrap()
}

#[test]
fn master_playlist_reads_as_meant() {
    let parsed = parse_master(&MasterPlaylist {
        variants: vec![variant()],
        audio: vec![rendition()],
        subtitles: vec![subtitles()],
        iframes: vec![iframes()],
    });
    assert_eq!((parsed.version, parsed.independent_segments), (Some(7), true));
    assert!(parsed.unknown_tags.is_empty());
    let [stream, scrubbed] = parsed.variants.as_slice() else { panic!("a variant and its I-frames") };
    assert!(!stream.is_i_frame && scrubbed.is_i_frame);
    assert_eq!(scrubbed.uri, "720p/iframes.m3u8");
    assert_eq!((scrubbed.bandwidth, scrubbed.average_bandwidth), (250_000, Some(200_000)));
    assert_eq!(scrubbed.codecs.as_deref(), Some("avc1.64001f"));
    assert_eq!(scrubbed.resolution.map(|size| (size.width, size.height)), Some((1280, 720)));
    assert_eq!(stream.uri, "720p/media.m3u8");
    assert_eq!((stream.bandwidth, stream.average_bandwidth), (3_128_000, Some(2_500_000)));
    assert_eq!(stream.codecs.as_deref(), Some("avc1.64001f,mp4a.40.2"));
    assert_eq!(stream.resolution.map(|size| (size.width, size.height)), Some((1280, 720)));
    assert_eq!((stream.frame_rate, stream.audio.as_deref()), (Some(29.97), Some("aac")));
    assert_eq!(stream.closed_captions, Some(ClosedCaptionGroupId::None));
    let name = stream.other_attributes.as_ref().and_then(|attributes| attributes.get("NAME"));
    assert_eq!(name, Some(&QuotedOrUnquoted::Quoted("720p".to_owned())));
    assert_eq!(stream.subtitles.as_deref(), Some("text"));
    let [audio, text] = parsed.alternatives.as_slice() else { panic!("a rendition of each kind") };
    assert_eq!((text.group_id.as_str(), text.name.as_str()), ("text", "Deutsch"));
    assert_eq!((text.default, text.autoselect, text.forced), (false, true, true));
    assert_eq!(text.characteristics.as_deref(), Some("public.easy-to-read"));
    assert_eq!(text.uri.as_deref(), Some("text/media.m3u8"));
    assert_eq!((audio.group_id.as_str(), audio.name.as_str()), ("aac", "English"));
    assert_eq!((audio.language.as_deref(), audio.channels.as_deref()), (Some("en"), Some("2")));
    assert_eq!(audio.uri.as_deref(), Some("audio/media.m3u8"));
    assert!(audio.default && audio.autoselect, "a default rendition is selected by itself");
}

#[test]
fn master_playlist_of_audio_alone() {
    let audio_only = Variant {
        codecs: vec!["mp4a.40.2".to_owned()],
        average_bandwidth: None,
        resolution: None,
        frame_rate: None,
        audio_group: None,
        subtitle_group: None,
        name: String::new(),
        ..variant()
    };
    let playlist =
        MasterPlaylist { variants: vec![audio_only], audio: vec![], subtitles: vec![], iframes: vec![] };
    let expected = "#EXTM3U\n\
        #EXT-X-VERSION:7\n\
        #EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-STREAM-INF:BANDWIDTH=3128000,CODECS=\"mp4a.40.2\",CLOSED-CAPTIONS=NONE\n\
        720p/media.m3u8\n";
    assert_eq!(playlist.render(), expected);
    assert_eq!(parse_master(&playlist).variants.len(), 1);
}

#[test]
fn frame_rates_have_three_decimals() {
    for (rate, expected) in [((24000, 1001), "23.976"), ((25, 1), "25.000"), ((60000, 1001), "59.940")] {
        let variant = Variant { frame_rate: Some(rate), ..variant() };
        let text =
            MasterPlaylist { variants: vec![variant], audio: vec![], subtitles: vec![], iframes: vec![] }
                .render();
        assert!(text.contains(&format!(",FRAME-RATE={expected},")), "{text}");
    }
}

#[test]
fn strings_cannot_break_out() {
    let hostile = "a\"\r\n#EXT-X-ENDLIST\n\u{0}b";
    let rendition = AudioRendition { group: hostile.into(), name: hostile.into(), ..rendition() };
    let variant = Variant { uri: format!("#{hostile}"), name: hostile.into(), ..variant() };
    let playlist = MasterPlaylist {
        variants: vec![variant],
        audio: vec![rendition],
        subtitles: vec![SubtitleRendition {
            name: hostile.into(),
            language: Some(hostile.into()),
            ..subtitles()
        }],
        iframes: vec![IframeVariant { uri: hostile.into(), ..iframes() }],
    };
    assert_eq!(playlist.render().lines().count(), 8);
    let parsed = parse_master(&playlist);
    assert_eq!(parsed.variants[0].uri, "%23a\"#EXT-X-ENDLISTb");
    assert_eq!(parsed.alternatives[0].name, "a'#EXT-X-ENDLISTb");
    assert_eq!(parsed.alternatives[1].name, "a'#EXT-X-ENDLISTb");
}

fn ticks(ticks: u64, timescale: u32) -> Ticks {
    Ticks { ticks, timescale }
}

fn media(kind: PlaylistKind) -> MediaPlaylist {
    let segment = |number: u32, duration| Segment { uri: format!("seg-{number}.m4s"), duration, range: None };
    MediaPlaylist {
        kind,
        target_duration: 6,
        map_uri: Some("init.mp4".to_owned()),
        iframes_only: false,
        first_sequence: 3,
        segments: vec![segment(3, ticks(180_180, 30_000)), segment(4, ticks(2, 3))],
    }
}

#[test]
fn vod_playlist_is_this_text() {
    let expected = "#EXTM3U\n\
        #EXT-X-VERSION:7\n\
        #EXT-X-TARGETDURATION:6\n\
        #EXT-X-MEDIA-SEQUENCE:3\n\
        #EXT-X-PLAYLIST-TYPE:VOD\n\
        #EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-MAP:URI=\"init.mp4\"\n\
        #EXTINF:6.006000,\n\
        seg-3.m4s\n\
        #EXTINF:0.666667,\n\
        seg-4.m4s\n\
        #EXT-X-ENDLIST\n";
    assert_eq!(media(PlaylistKind::Vod).render(), expected);
}

#[test]
fn segments_without_a_map_ask_less_of_a_player() {
    let playlist = MediaPlaylist { map_uri: None, ..media(PlaylistKind::Vod) };
    assert!(!playlist.render().contains("EXT-X-MAP"));
    let parsed = parse_media(&playlist);
    assert_eq!((parsed.version, parsed.segments.len()), (Some(3), 2));
    assert!(parsed.segments[0].map.is_none());
}

#[test]
fn media_playlist_reads_as_meant() {
    let kinds = [
        (PlaylistKind::Vod, MediaPlaylistType::Vod, true),
        (PlaylistKind::Event { ended: false }, MediaPlaylistType::Event, false),
        (PlaylistKind::Event { ended: true }, MediaPlaylistType::Event, true),
    ];
    for (kind, expected, ended) in kinds {
        let parsed = parse_media(&media(kind));
        assert_eq!((parsed.playlist_type, parsed.end_list), (Some(expected), ended));
        assert_eq!((parsed.version, parsed.independent_segments), (Some(7), true));
        assert_eq!((parsed.target_duration, parsed.media_sequence), (6, 3));
        assert!(parsed.unknown_tags.is_empty());
        let map = parsed.segments[0].map.as_ref().map(|map| map.uri.as_str());
        assert_eq!(map, Some("init.mp4"));
        let segments: Vec<_> = parsed.segments.iter().map(|s| (s.uri.as_str(), s.duration)).collect();
        assert_eq!(segments, [("seg-3.m4s", 6.006), ("seg-4.m4s", 0.666_667)]);
    }
}

#[test]
fn a_playlist_of_i_frames_names_parts_of_files() {
    let mut playlist = media(PlaylistKind::Vod);
    playlist.iframes_only = true;
    playlist.segments[1].range = Some(ByteRange { offset: 24, bytes: 6000 });
    assert!(playlist.render().contains("#EXTINF:0.666667,\n#EXT-X-BYTERANGE:6000@24\nseg-4.m4s\n"));
    let parsed = parse_media(&playlist);
    assert!(parsed.i_frames_only && parsed.unknown_tags.is_empty());
    assert_eq!(parsed.segments[0].byte_range, None);
    let range = parsed.segments[1].byte_range.as_ref().map(|range| (range.length, range.offset));
    assert_eq!(range, Some((6000, Some(24))));
}

#[test]
fn target_duration_is_the_longest_segment_to_the_nearest_second() {
    let cases = [
        (ticks(0, 48_000), 1),
        (ticks(1, 10), 1),
        (ticks(6006, 1000), 6),
        (ticks(6499, 1000), 6),
        (ticks(65, 10), 7),
        // Written as 6.500000, which a player rounds to 7.
        (ticks(64_999_996, 10_000_000), 7),
        (ticks(7, 0), 7),
        (ticks(u64::MAX, 1), u32::MAX),
    ];
    for (longest, expected) in cases {
        assert_eq!(target_duration(longest), expected, "{longest:?}");
    }
}

fn measured(bytes: u64, millis: u64) -> MeasuredSegment {
    MeasuredSegment { bytes, duration: ticks(millis, 1000) }
}

#[test]
fn bandwidth_of_equal_segments_is_their_own() {
    let segments = [measured(750_000, 6000); 4];
    assert_eq!(measure_bandwidth(&segments), Some(Bandwidth { peak: 1_000_000, average: 1_000_000 }));
    let uneven = [measured(750_000, 6000), measured(1_500_000, 6000)];
    assert_eq!(measure_bandwidth(&uneven), Some(Bandwidth { peak: 2_000_000, average: 1_500_000 }));
}

#[test]
fn a_short_segment_at_the_end_counts_with_its_neighbour() {
    // 40 ms with a keyframe alone would be 10 Mbit/s.
    let segments = [measured(750_000, 6000), measured(750_000, 6000), measured(50_000, 40)];
    let Bandwidth { peak, average } = measure_bandwidth(&segments).unwrap();
    assert_eq!(peak, (800_000 * 8_000_u64).div_ceil(6040));
    assert_eq!(average, (1_550_000 * 8_000_u64).div_ceil(12_040));
}

#[test]
fn several_short_segments_make_a_peak_together() {
    // The target is 6 s: spans of 3 to 9 s count, so the busy second counts with its calm neighbours only.
    let segments =
        [measured(600_000, 6000), measured(100_000, 1000), measured(400_000, 1000), measured(100_000, 1000)];
    let Bandwidth { peak, .. } = measure_bandwidth(&segments).unwrap();
    assert_eq!(peak, 1_600_000, "the last three");
}

#[test]
fn bandwidth_of_next_to_nothing() {
    assert_eq!(measure_bandwidth(&[]), None);
    assert_eq!(measure_bandwidth(&[measured(10, 0)]), None);
    let blink = measure_bandwidth(&[measured(1000, 100)]);
    assert_eq!(blink, Some(Bandwidth { peak: 80_000, average: 80_000 }));
    let absurd = measure_bandwidth(&[measured(u64::MAX, 1000), measured(u64::MAX, 1)]).unwrap();
    assert_eq!(absurd.peak, u64::MAX);
}
