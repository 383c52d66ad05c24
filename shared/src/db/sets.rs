//! The segment index: sets, their renditions and segments, and the recordings that refer to them.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use super::{Db, DbError, GenericClient, cdn};
use crate::cdn::SurrogateKey;
use crate::ids::{JobId, ProjectId, RecordingId, SetId};
use crate::job::plan::NewSet;
use crate::job::state::words;
use crate::media::cmaf::Keyframe;
use crate::media::hls::{self, Bandwidth, MeasuredSegment, measure_bandwidth};
use crate::media::tracks::Role;

mod presented;

words! {
    /// Picture, sound or text.
    TrackKind("track kind") {
        Video = "video",
        Audio = "audio",
        Text = "text",
    }
}

impl TrackKind {
    /// What the names of its segments end in.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Video | Self::Audio => "m4s",
            Self::Text => "vtt",
        }
    }
}

/// An encoded rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rendition {
    pub rung: String,
    /// Place in the ladder, best first, or among the tracks of its kind, the default one first.
    pub position: i32,
    pub kind: TrackKind,
    /// RFC 6381.
    pub codec: String,
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// Frames per second as a fraction.
    pub frame_rate: Option<(u32, u32)>,
    pub sample_rate: Option<u32>,
    pub channels: Option<u32>,
    /// BCP 47.
    pub language: Option<String>,
    /// What a menu calls it, where it is one of several tracks; else the rung's name does.
    pub label: Option<String>,
    pub role: Role,
    pub timescale: u32,
    /// Empty where there is none: text.
    pub init_key: String,
    pub init_bytes: u64,
    /// All of a text in one file; `None` for picture and sound.
    pub text: Option<TextFile>,
    /// Bits per second: declared while the rendition grows, then measured.
    pub peak_bandwidth: u64,
    pub average_bandwidth: u64,
    /// Of the I-frames alone: known once it is measured, where the places of the keyframes are.
    pub iframe_bandwidth: Option<Bandwidth>,
    /// Zero while it grows.
    pub duration_ticks: u64,
}

/// A file of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFile {
    pub key: String,
    pub bytes: u64,
}

/// What a finished rendition turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    pub rung: String,
    pub bandwidth: Bandwidth,
    /// Of the I-frames alone; `None` where the places of the keyframes are not known.
    pub iframe_bandwidth: Option<Bandwidth>,
    pub duration_ticks: u64,
}

impl Rendition {
    /// Measures a finished rendition; `None` where its segments last no time.
    pub fn measured(&self, segments: &[Segment]) -> Option<Measured> {
        let all: Vec<MeasuredSegment> = segments
            .iter()
            .map(|segment| MeasuredSegment {
                bytes: segment.bytes,
                duration: self.ticks(segment.duration_ticks),
            })
            .collect();
        let known = segments.iter().all(|segment| !segment.keyframes.is_empty());
        let keyframes = segments.iter().filter(|_| known).flat_map(|segment| &segment.keyframes);
        let keyframes: Vec<MeasuredSegment> = keyframes
            .map(|key| MeasuredSegment { bytes: key.bytes.into(), duration: self.ticks(key.ticks) })
            .collect();
        Some(Measured {
            rung: self.rung.clone(),
            bandwidth: measure_bandwidth(&all)?,
            iframe_bandwidth: measure_bandwidth(&keyframes),
            duration_ticks: segments.iter().map(|segment| segment.duration_ticks).sum(),
        })
    }

    /// A density in bytes a tick as bits a second, rounded up.
    pub fn bits_per_second(&self, density: f64) -> u64 {
        (density * 8.0 * f64::from(self.timescale)).ceil() as u64
    }

    fn ticks(&self, ticks: u64) -> hls::Ticks {
        hls::Ticks { ticks, timescale: self.timescale }
    }
}

/// One segment of a rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// From zero.
    pub number: u32,
    pub key: String,
    pub bytes: u64,
    /// In the rendition's timescale.
    pub duration_ticks: u64,
    /// Of video, in order. None where they were not noted.
    pub keyframes: Vec<Keyframe>,
}

/// A rendition, or a chunk of it, with its segments, ready to be published by the task that made it.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedRendition {
    pub rendition: Rendition,
    /// Of the init segment: that of one chunk serves all.
    pub init_sha256: Vec<u8>,
    pub segments: Vec<Segment>,
}

/// A recording's reference to a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetReference {
    pub set_id: SetId,
    /// Names the set in segment file names.
    pub ordinal: i32,
    pub active: bool,
    /// Where its static playlists lie; `None` while it grows.
    pub static_prefix: Option<String>,
    /// Of all its playlists, in seconds.
    pub target_duration: Option<u32>,
}

impl SetReference {
    /// True where nothing will be added to the set.
    pub fn is_finished(&self) -> bool {
        self.static_prefix.is_some()
    }
}

/// Makes a set and lets the recording refer to it, inactive; one that was begun before all was known of its source learns the rest. In the
/// caller's transaction.
pub(crate) async fn insert(
    client: &impl GenericClient,
    project: ProjectId,
    set: &NewSet,
    duration_seconds: f64,
    job: JobId,
    recording: RecordingId,
) -> Result<(), DbError> {
    client
        .execute(
            "insert into sets (id, project_id, job_id, target_duration, duration_seconds, needs_video, needs_audio,
                 recipe)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (id) do update
             set target_duration = greatest(sets.target_duration, excluded.target_duration),
                 duration_seconds = excluded.duration_seconds, recipe = excluded.recipe",
            &[
                &set.id.0,
                &project.0,
                &job.0,
                &(set.target_duration as i32),
                &duration_seconds,
                &set.needs_video,
                &set.needs_audio,
                &set.recipe.as_ref().map(|recipe| recipe.as_slice()),
            ],
        )
        .await?;
    // Two jobs of one recording may be planned at once; the recording's row orders their ordinals.
    client.query_one("select id from recordings where id = $1 for no key update", &[&recording.0]).await?;
    client
        .execute(
            "insert into recording_sets (recording_id, set_id, ordinal)
             select $1, $2, coalesce(max(ordinal), 0) + 1 from recording_sets where recording_id = $1
             on conflict (recording_id, set_id) do nothing",
            &[&recording.0, &set.id.0],
        )
        .await?;
    Ok(())
}

/// The digest of a rendition's init segment, once a chunk of it is published.
pub async fn init_digest(db: &Db, set: SetId, rung: &str) -> Result<Option<Vec<u8>>, DbError> {
    let client = db.get().await?;
    let statement =
        client.prepare_cached("select init_sha256 from renditions where set_id = $1 and rung = $2").await?;
    let row = client.query_opt(&statement, &[&set.0, &rung]).await?;
    Ok(row.and_then(|row| row.get(0)))
}

/// Publishes a rendition or a chunk of it: the first chunk brings the rendition, each its segments. In the caller's guarded
/// transaction, which knows that `epoch` owns the task and holds the job's row, so that chunks come one after the other.
pub(crate) async fn publish(
    client: &impl GenericClient,
    set: SetId,
    epoch: i32,
    encoded: &EncodedRendition,
) -> Result<(), DbError> {
    let r = &encoded.rendition;
    client
        .execute(
            "insert into renditions (set_id, rung, position, kind, codec, width, height, fps_num, fps_den, sample_rate,
                 channels, language, timescale, init_key, init_bytes, peak_bandwidth, average_bandwidth,
                 duration_ticks, epoch, init_sha256, label, role, text_key, text_bytes)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
                 $23, $24)
             on conflict (set_id, rung) do nothing",
            &[
                &set.0,
                &r.rung,
                &r.position,
                &r.kind.as_str(),
                &r.codec,
                &r.width.map(|n| n as i32),
                &r.height.map(|n| n as i32),
                &r.frame_rate.map(|(num, _)| num as i32),
                &r.frame_rate.map(|(_, den)| den as i32),
                &r.sample_rate.map(|n| n as i32),
                &r.channels.map(|n| n as i32),
                &r.language,
                &(r.timescale as i32),
                &r.init_key,
                &(r.init_bytes as i32),
                &(r.peak_bandwidth as i64),
                &(r.average_bandwidth as i64),
                &(r.duration_ticks as i64),
                &epoch,
                &encoded.init_sha256,
                &r.label,
                &r.role.as_str(),
                &r.text.as_ref().map(|file| file.key.as_str()),
                &r.text.as_ref().map(|file| file.bytes as i32),
            ],
        )
        .await?;
    let agrees = client
        .query_opt(
            "select 1 from renditions where set_id = $1 and rung = $2 and init_sha256 = $3",
            &[&set.0, &r.rung, &encoded.init_sha256],
        )
        .await?;
    if agrees.is_none() {
        return Err(DbError::OtherInit(r.rung.clone()));
    }
    let numbers: Vec<i32> = encoded.segments.iter().map(|s| s.number as i32).collect();
    let keys: Vec<&str> = encoded.segments.iter().map(|s| s.key.as_str()).collect();
    let bytes: Vec<i32> = encoded.segments.iter().map(|s| s.bytes as i32).collect();
    let durations: Vec<i64> = encoded.segments.iter().map(|s| s.duration_ticks as i64).collect();
    let keyframes: Vec<Option<Json<Vec<KeyframeRow>>>> =
        encoded.segments.iter().map(|s| keyframe_rows(&s.keyframes)).collect();
    client
        .execute(
            "insert into segments (set_id, rung, epoch, number, key, bytes, duration_ticks, keyframes)
             select $1, $2, $3, number, key, bytes, ticks, keyframes
             from unnest($4::int[], $5::text[], $6::int[], $7::bigint[], $8::jsonb[])
                 as s (number, key, bytes, ticks, keyframes)",
            &[&set.0, &r.rung, &epoch, &numbers, &keys, &bytes, &durations, &keyframes],
        )
        .await?;
    Ok(())
}

/// Offset, bytes and ticks of a [`Keyframe`].
type KeyframeRow = (u32, u32, u64);

fn keyframe_rows(keyframes: &[Keyframe]) -> Option<Json<Vec<KeyframeRow>>> {
    let rows: Vec<KeyframeRow> = keyframes.iter().map(|key| (key.offset, key.bytes, key.ticks)).collect();
    (!rows.is_empty()).then_some(Json(rows))
}

/// A recording that can be played from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Playable {
    pub recording: RecordingId,
    pub duration_seconds: Option<f64>,
}

/// Makes the set what its recording plays, once the first segments that a player needs are there, unless the recording has a
/// finished one. `None` where nothing changed. In the caller's guarded transaction, behind [`publish`].
pub(crate) async fn make_playable(
    client: &impl GenericClient,
    set: SetId,
) -> Result<Option<Playable>, DbError> {
    // Any rung of the picture will do, but only the default track of the sound.
    let begins =
        "exists (select 1 from renditions r join segments g on g.set_id = r.set_id and g.rung = r.rung
                          where r.set_id = s.id and g.number = 0 and (r.kind = 'video' or r.position = 0) and r.kind =";
    let statement = client
        .prepare_cached(&format!(
            "update sets s set playable_at = now()
             where id = $1 and playable_at is null and (needs_video or needs_audio)
               and (not needs_video or {begins} 'video')) and (not needs_audio or {begins} 'audio'))
             returning duration_seconds"
        ))
        .await?;
    let Some(row) = client.query_opt(&statement, &[&set.0]).await? else { return Ok(None) };
    let duration_seconds = row.get(0);
    let mine =
        client.query_opt("select recording_id from recording_sets where set_id = $1", &[&set.0]).await?;
    let Some(recording) = mine.map(|row| RecordingId(row.get(0))) else { return Ok(None) };
    // The recording's row orders the sets of two jobs that get here at once.
    client.query_one("select id from recordings where id = $1 for no key update", &[&recording.0]).await?;
    let changed = client
        .execute(
            "update recording_sets set active = (set_id = $2)
             where recording_id = $1 and not exists (
                 select 1 from recording_sets where recording_id = $1 and active and static_prefix is not null)",
            &[&recording.0, &set.0],
        )
        .await?;
    if changed > 0 {
        cdn::renew(client, recording).await?;
    }
    Ok((changed > 0).then_some(Playable { recording, duration_seconds }))
}

/// Takes back what a job made playable early: it turned out to be worse than was asked for. In the caller's transaction.
pub(crate) async fn withdraw(client: &impl GenericClient, job: JobId) -> Result<(), DbError> {
    let rows = client
        .query(
            "update recording_sets rs set active = false from sets s
             where s.id = rs.set_id and s.job_id = $1 and rs.static_prefix is null returning rs.recording_id",
            &[&job.0],
        )
        .await?;
    for row in rows {
        cdn::forget(client, SurrogateKey::Listings(RecordingId(row.get(0)))).await?;
    }
    Ok(())
}

/// Notes what finished renditions turned out to be. In the caller's guarded transaction.
pub(crate) async fn set_measured(
    client: &impl GenericClient,
    set: SetId,
    measured: &[Measured],
) -> Result<(), DbError> {
    for rendition in measured {
        client
            .execute(
                "update renditions set peak_bandwidth = $3, average_bandwidth = $4, duration_ticks = $5,
                     iframe_peak_bandwidth = $6, iframe_average_bandwidth = $7
                 where set_id = $1 and rung = $2",
                &[
                    &set.0,
                    &rendition.rung,
                    &(rendition.bandwidth.peak as i64),
                    &(rendition.bandwidth.average as i64),
                    &(rendition.duration_ticks as i64),
                    &rendition.iframe_bandwidth.map(|bandwidth| bandwidth.peak as i64),
                    &rendition.iframe_bandwidth.map(|bandwidth| bandwidth.average as i64),
                ],
            )
            .await?;
    }
    Ok(())
}

/// Makes a set the one its recording plays, and says where its static playlists lie. In the caller's guarded transaction.
pub(crate) async fn activate(
    client: &impl GenericClient,
    recording: RecordingId,
    set: SetId,
    static_prefix: &str,
) -> Result<(), DbError> {
    client
        .execute(
            "update recording_sets
             set active = (set_id = $2), static_prefix = case when set_id = $2 then $3 else static_prefix end
             where recording_id = $1",
            &[&recording.0, &set.0, &static_prefix],
        )
        .await?;
    Ok(())
}

fn read(row: &Row) -> Result<Rendition, DbError> {
    let small = |column: &str| row.get::<_, Option<i32>>(column).map(|n| n.max(0) as u32);
    let rate = |column: &str| row.get::<_, Option<i64>>(column).map(|n| n.max(0) as u64);
    Ok(Rendition {
        rung: row.get("rung"),
        position: row.get("position"),
        kind: row.get::<_, &str>("kind").parse()?,
        codec: row.get("codec"),
        width: small("width"),
        height: small("height"),
        frame_rate: small("fps_num").zip(small("fps_den")),
        sample_rate: small("sample_rate"),
        channels: small("channels"),
        language: row.get("language"),
        label: row.get("label"),
        role: Role::parse(row.get("role")).unwrap_or_default(),
        timescale: row.get::<_, i32>("timescale").max(1) as u32,
        init_key: row.get("init_key"),
        init_bytes: row.get::<_, i32>("init_bytes").max(0) as u64,
        text: row.get::<_, Option<String>>("text_key").map(|key| TextFile {
            key,
            bytes: row.get::<_, Option<i32>>("text_bytes").unwrap_or(0).max(0) as u64,
        }),
        peak_bandwidth: row.get::<_, i64>("peak_bandwidth").max(0) as u64,
        average_bandwidth: row.get::<_, i64>("average_bandwidth").max(0) as u64,
        iframe_bandwidth: rate("iframe_peak_bandwidth")
            .zip(rate("iframe_average_bandwidth"))
            .map(|(peak, average)| Bandwidth { peak, average }),
        duration_ticks: row.get::<_, i64>("duration_ticks").max(0) as u64,
    })
}

/// Renditions of a set: the picture, best first, then the sound, then text.
pub async fn renditions(db: &Db, set: SetId) -> Result<Vec<Rendition>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select * from renditions where set_id = $1
             order by array_position('{video,audio,text}'::text[], kind), position, rung",
        )
        .await?;
    client.query(&statement, &[&set.0]).await?.iter().map(read).collect()
}

/// Segments of one rendition in order.
pub async fn segments(db: &Db, set: SetId, rung: &str) -> Result<Vec<Segment>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select number, key, bytes, duration_ticks, keyframes from segments
             where set_id = $1 and rung = $2 order by number",
        )
        .await?;
    let rows = client.query(&statement, &[&set.0, &rung]).await?;
    Ok(rows.iter().map(read_segment).collect())
}

/// What of a rendition can be played from its beginning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prefix {
    /// From the first on, without a hole.
    pub segments: usize,
    /// Bytes a tick of the densest of them.
    pub densest: f64,
}

/// What of each rendition of a set can be played from its beginning.
pub async fn prefixes(db: &Db, set: SetId) -> Result<HashMap<String, Prefix>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select rung, count(*) as whole, max(bytes::float8 / greatest(duration_ticks, 1)) as densest
             from (select rung, number, bytes, duration_ticks,
                          row_number() over (partition by rung order by number) - 1 as place
                   from segments where set_id = $1) s
             where number = place group by rung",
        )
        .await?;
    let rows = client.query(&statement, &[&set.0]).await?;
    let prefix = |row: &Row| Prefix {
        segments: row.get::<_, i64>("whole").max(0) as usize,
        densest: row.get("densest"),
    };
    Ok(rows.iter().map(|row| (row.get("rung"), prefix(row))).collect())
}

/// One segment.
pub async fn segment(db: &Db, set: SetId, rung: &str, number: u32) -> Result<Option<Segment>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select number, key, bytes, duration_ticks, keyframes from segments
             where set_id = $1 and rung = $2 and number = $3",
        )
        .await?;
    let row = client.query_opt(&statement, &[&set.0, &rung, &(number as i32)]).await?;
    Ok(row.as_ref().map(read_segment))
}

/// The segment that is played at a moment of a rendition, and where it begins, in ticks; the last one where there is nothing so late. Only of
/// those before `below`, where a set grows and may have holes behind it.
pub async fn segment_at(
    db: &Db,
    set: SetId,
    rung: &str,
    ticks: u64,
    below: Option<i32>,
) -> Result<Option<(u32, u64)>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select number, start from (
                 select number, (sum(duration_ticks) over (order by number))::bigint - duration_ticks as start
                 from segments where set_id = $1 and rung = $2 and ($4::int is null or number < $4)) s
             where start <= $3 order by number desc limit 1",
        )
        .await?;
    let ticks = i64::try_from(ticks).unwrap_or(i64::MAX);
    let row = client.query_opt(&statement, &[&set.0, &rung, &ticks, &below]).await?;
    Ok(row.map(|row| (row.get::<_, i32>("number").max(0) as u32, row.get::<_, i64>("start").max(0) as u64)))
}

fn read_segment(row: &Row) -> Segment {
    Segment {
        number: row.get::<_, i32>("number").max(0) as u32,
        key: row.get("key"),
        bytes: row.get::<_, i32>("bytes").max(0) as u64,
        duration_ticks: row.get::<_, i64>("duration_ticks").max(0) as u64,
        keyframes: row
            .get::<_, Option<Json<Vec<KeyframeRow>>>>("keyframes")
            .map(|Json(rows)| rows)
            .unwrap_or_default()
            .into_iter()
            .map(|(offset, bytes, ticks)| Keyframe { offset, bytes, ticks })
            .collect(),
    }
}

/// The sets a recording refers to, newest first.
pub async fn of_recording(db: &Db, recording: RecordingId) -> Result<Vec<SetReference>, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select rs.set_id, rs.ordinal, rs.active, rs.static_prefix, s.target_duration
             from recording_sets rs join sets s on s.id = rs.set_id
             where rs.recording_id = $1 order by rs.ordinal desc",
        )
        .await?;
    let rows = client.query(&statement, &[&recording.0]).await?;
    Ok(rows
        .iter()
        .map(|row| SetReference {
            set_id: SetId(row.get("set_id")),
            ordinal: row.get("ordinal"),
            active: row.get("active"),
            static_prefix: row.get("static_prefix"),
            target_duration: row.get::<_, Option<i32>>("target_duration").map(|n| n.max(1) as u32),
        })
        .collect())
}
