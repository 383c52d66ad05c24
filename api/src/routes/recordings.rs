//! `/recordings`.

use axum::Json;
use axum::extract::multipart::Field;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::DateTime;
use reelmill_shared::auth::Scope;
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::cdn::SurrogateKey;
use reelmill_shared::db::jobs;
use reelmill_shared::db::recordings::{self, NewRecording, Recording, RecordingFilter};
use reelmill_shared::db::{sources, stills};
use reelmill_shared::ids::RecordingId;
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::job::state::{Access, RecordingStatus};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::downloads;
use crate::dry_run;
use crate::dto::dry_run::DryRunDto;
use crate::dto::job::{InputDto, JobDto};
use crate::dto::recording::{
    Gathered, NewRecordingDto, PatchRecordingDto, PlaybackTokenDto, RecordingDto, RecordingFormDto,
    RecordingInfoDto, RecordingListDto, RenditionDto, StreamingDto,
};
use crate::extract::{Body, Path, Query, cursor, cut_page, is_json, limit};
use crate::idempotency::reserved;
use crate::playback::{active_set, renditions};
use crate::problem::{Answer, Kind, Problem, ProblemDocument};
use crate::routes::jobs::CreateQuery;
use crate::routes::thumbnails::has_poster;
use crate::routes::viewing;
use crate::state::App;
use crate::submit::{Wish, bad_title, check_early, fault, metadata, submit};
use crate::tokens;
use crate::trace::traceparent;
use crate::uploads::store_whole;

/// Create a recording and transcode it.
///
/// From a URL, an upload, or a file sent right here as `multipart/form-data` with the fields `title` and `profile` (both
/// optional; before the file, a mistake in them is told before the file is sent) and `file`.
///
/// With `dry_run=true` nothing is made and the answer is that of `POST /jobs?dry_run=true`.
#[utoipa::path(post, path = "/recordings", tag = "recordings", params(CreateQuery), request_body(
    content((NewRecordingDto = "application/json"), (RecordingFormDto = "multipart/form-data")),
), responses(
    (status = 201, description = "Accepted; Location is the recording.", body = RecordingDto),
    (status = 200, description = "What would be done, for a dry run.", body = DryRunDto),
    (status = 202, description = "The job that finds out what would be done, for a dry run that takes longer.", body = JobDto),
    (status = 409, description = "The dry run was cancelled.", body = ProblemDocument),
    (status = 422, description = "Fields are not right, or, for a dry run, the input is not; each is named in errors[].", body = ProblemDocument),
    (status = 503, description = "The farm could not carry the dry run out.", body = ProblemDocument),
))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Query(query): Query<CreateQuery>,
    request: Request,
) -> Answer<Response> {
    caller.need(Scope::Write)?;
    let body = if is_json(&headers) {
        Body::<NewRecordingDto>::from_request(request, &app).await?.0
    } else {
        from_form(&app, &caller, request).await?
    };
    if body.input.live == Some(true) && query.dry_run != Some(true) && body.comes_alone() {
        return create_live(&app, &caller, body).await;
    }
    let wish = Wish {
        profile: body.profile,
        outputs: body.outputs,
        thumbnail: body.thumbnail,
        thumbnails: body.thumbnails,
        priority: body.priority,
        title: body.title,
        access: body.access,
        recording_metadata: body.metadata,
        edit: body.edit,
        ladder: body.ladder,
        quality: body.quality,
        callback_url: body.callback_url,
        force: body.force,
        ..Wish::new(JobKind::Transcode, body.input, traceparent(&headers))
    };
    if wish.input.recording_id.is_some() {
        return Err(Problem::field("/input/recording_id", "makes no new recording; submit a job instead"));
    }
    if query.dry_run == Some(true) {
        return dry_run::answer(&app, &caller, wish).await;
    }
    let job = submit(&app, &caller, wish).await?;
    let Some(id) = job.recording_id else {
        return Err(Problem::new(Kind::Internal, "the job has no recording"));
    };
    created(&app, &caller, id).await
}

/// A recording of which there is nothing yet: it is to come live.
async fn create_live(app: &App, caller: &Caller, body: NewRecordingDto) -> Answer<Response> {
    let mut faults = vec![];
    let metadata = metadata(body.metadata, "/metadata", &mut faults);
    let title = body.title.unwrap_or_else(|| "Untitled".to_owned());
    faults.extend(bad_title(&title).map(|detail| fault("/title", detail)));
    if !faults.is_empty() {
        return Err(Problem::fields(faults));
    }
    // A request that is repeated makes one.
    let id = reserved().map_or_else(RecordingId::new, RecordingId);
    let access = body.access.unwrap_or(Access::Private);
    let new = NewRecording { id, title, access, source_id: None, metadata };
    recordings::create(&app.db, caller.project_id, &new).await?;
    created(app, caller, id).await
}

async fn created(app: &App, caller: &Caller, id: RecordingId) -> Answer<Response> {
    let dto = gather(app, find(app, caller, id).await?).await?;
    let location = format!("/api/v1/recordings/{id}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(dto)).into_response())
}

/// Reads a form: text fields and the file, which is stored as it comes.
async fn from_form(app: &App, caller: &Caller, request: Request) -> Answer<NewRecordingDto> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Problem::new(Kind::Malformed, format!("the form does not read: {error}"))
    };
    let mut form = Multipart::from_request(request, app).await.map_err(|_| {
        Problem::new(Kind::UnsupportedMediaType, "send application/json, or multipart/form-data with a file")
    })?;
    let mut body = NewRecordingDto::default();
    while let Some(field) = form.next_field().await.map_err(|e| unreadable(&e))? {
        match field.name().unwrap_or_default() {
            "title" => body.title = Some(short_text(field).await?),
            "profile" => body.profile = Some(json!(short_text(field).await?)),
            "file" if body.input.upload_id.is_some() => {
                return Err(Problem::field("/file", "is there twice; a recording is made of one file"));
            }
            "file" => {
                check_early(app, caller, body.profile.as_ref(), body.title.as_deref()).await?;
                let name = field.file_name().unwrap_or("upload").to_owned();
                let upload = store_whole(app, caller, &name, field).await?;
                body.input = InputDto { upload_id: Some(upload.id), ..InputDto::default() };
            }
            other => {
                return Err(Problem::field(
                    format!("/{other}"),
                    "is not a field of this form (title, profile, file)",
                ));
            }
        }
    }
    if body.input.upload_id.is_none() {
        return Err(Problem::field("/file", "is missing"));
    }
    Ok(body)
}

/// A text field of a form.
async fn short_text(mut field: Field<'_>) -> Answer<String> {
    const LIMIT: usize = 4096;
    let mut bytes = vec![];
    while let Some(chunk) = field
        .chunk()
        .await
        .map_err(|error| Problem::new(Kind::Malformed, format!("the form does not read: {error}")))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LIMIT {
            return Err(Problem::new(
                Kind::PayloadTooLarge,
                format!("a text field may have at most {LIMIT} bytes"),
            ));
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::new(Kind::Malformed, "a text field is not UTF-8"))
}

/// The caller's recording, or a problem.
pub(crate) async fn find(app: &App, caller: &Caller, id: RecordingId) -> Answer<Recording> {
    recordings::get(&app.db, caller.project_id, id).await?.ok_or_else(|| Problem::not_found("recording", id))
}

/// A recording with everything its answer tells.
pub(crate) async fn gather(app: &App, recording: Recording) -> Answer<RecordingDto> {
    let source = match recording.source_id {
        Some(id) => sources::get(&app.db, id).await?,
        None => None,
    };
    let renditions = match active_set(app, recording.id).await? {
        Some(set) => renditions(app, &set).await?.to_vec(),
        None => vec![],
    };
    let has_picture = has_poster(app, recording.id).await?;
    let has_storyboard = stills::storyboard(&app.db, recording.id).await?.is_some();
    let mp4 = downloads::list(app, recording.id).await?;
    let newest = jobs::newest_of(&app.db, &[recording.id], &[JobKind::Transcode]).await?;
    let job_id = newest.get(&recording.id).filter(|job| !job.hidden).map(|job| job.id);
    Ok(Gathered { recording, source, renditions, has_picture, has_storyboard, mp4, job_id }.into())
}

/// Filters of a list of recordings.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecordingQuery {
    status: Option<RecordingStatus>,
    /// 1 to 200; 50 where it is left out.
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List recordings, newest first.
#[utoipa::path(get, path = "/recordings", tag = "recordings", params(RecordingQuery), responses(
    (status = 200, description = "A page of recordings.", body = RecordingListDto),
))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<RecordingQuery>,
) -> Answer<Json<RecordingListDto>> {
    caller.need(Scope::Read)?;
    let limit = limit(query.limit)?;
    let filter = RecordingFilter { status: query.status };
    let after = cursor(query.cursor.as_deref())?;
    let mut rows = recordings::list(&app.db, caller.project_id, filter, after, limit + 1).await?;
    let next_cursor = cut_page(&mut rows, limit, |recording| recording.id);
    let gathered = futures::future::try_join_all(rows.into_iter().map(|row| gather(&app, row))).await?;
    Ok(Json(RecordingListDto { recordings: gathered, next_cursor }))
}

/// Read a recording.
#[utoipa::path(get, path = "/recordings/{id}", tag = "recordings", params(("id" = RecordingId, Path)), responses(
    (status = 200, description = "The recording.", body = RecordingDto),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
))]
pub(crate) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
) -> Answer<Json<RecordingDto>> {
    caller.need(Scope::Read)?;
    Ok(Json(gather(&app, find(&app, &caller, id).await?).await?))
}

/// Change a recording's title or access.
#[utoipa::path(patch, path = "/recordings/{id}", tag = "recordings", params(("id" = RecordingId, Path)),
    request_body = PatchRecordingDto, responses(
    (status = 200, description = "The recording as it is now.", body = RecordingDto),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
    Body(body): Body<PatchRecordingDto>,
) -> Answer<Json<RecordingDto>> {
    caller.need(Scope::Write)?;
    if let Some(detail) = body.title.as_deref().and_then(bad_title) {
        return Err(Problem::field("/title", detail));
    }
    let (title, access) = (body.title.as_deref(), body.access);
    if !recordings::update(&app.db, caller.project_id, id, title, access).await? {
        return Err(Problem::not_found("recording", id));
    }
    Ok(Json(gather(&app, find(&app, &caller, id).await?).await?))
}

/// Delete a recording with everything made of it.
///
/// Its unfinished jobs are cancelled. The files go soon after.
#[utoipa::path(delete, path = "/recordings/{id}", tag = "recordings", params(("id" = RecordingId, Path)), responses(
    (status = 204, description = "It is gone."),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
) -> Answer<StatusCode> {
    caller.need(Scope::Write)?;
    if !recordings::delete(&app.db, caller.project_id, id).await? {
        return Err(Problem::not_found("recording", id));
    }
    for job in jobs::unfinished_of_recording(&app.db, id).await? {
        jobs::cancel(&app.db, caller.project_id, job).await?;
    }
    // Should this process end here, the scheduler does the rest.
    recordings::discard(&app.db, id).await?;
    app.caches.references.invalidate(&id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Read what is known of a recording.
///
/// Its source, what can be streamed, who watched.
#[utoipa::path(get, path = "/recordings/{id}/info", tag = "recordings", params(("id" = RecordingId, Path)), responses(
    (status = 200, description = "What is known.", body = RecordingInfoDto),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
))]
pub(crate) async fn info(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
) -> Answer<Json<RecordingInfoDto>> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    let probe = match recording.source_id {
        Some(source) => sources::get(&app.db, source).await?.and_then(|source| source.probe),
        None => None,
    };
    let analytics = viewing::summary(&app, &recording).await?;
    let dto = gather(&app, recording).await?;
    let video = probe.as_ref().and_then(|probe| probe.video.as_ref());
    let audio = probe.iter().flat_map(|probe| &probe.audio);
    let mut streams = vec![];
    streams.extend(video.map(|v| {
        json!({
            "index": v.index, "type": "video", "codec": v.codec, "width": v.width, "height": v.height,
            "fps": v.rate.as_f64(), "rotation": v.rotation, "pixel_format": v.pixel_format,
            "interlaced": v.interlaced, "transfer": v.transfer, "variable_rate": v.variable_rate,
        })
    }));
    streams.extend(audio.clone().map(|a| {
        json!({
            "index": a.index, "type": "audio", "codec": a.codec, "sample_rate": a.sample_rate,
            "channels": a.channels, "language": a.language,
        })
    }));
    let codecs = video.map(|v| v.codec.clone()).into_iter().chain(audio.map(|a| a.codec.clone())).collect();
    let formats = [("hls", &dto.hls_url), ("dash", &dto.dash_url)];
    let formats =
        formats.into_iter().filter(|(_, url)| url.is_some()).map(|(name, _)| name.to_owned()).collect();
    let source = dto.source.as_ref();
    Ok(Json(RecordingInfoDto {
        id: dto.id,
        title: dto.title,
        status: dto.status,
        format: probe.as_ref().map(|probe| probe.format.clone()),
        duration_seconds: dto.duration_seconds.or(probe.as_ref().map(|probe| probe.duration_seconds)),
        size_bytes: source.and_then(|source| source.size_bytes),
        bitrate: probe.as_ref().and_then(|probe| probe.bitrate),
        width: source.and_then(|source| source.width),
        height: source.and_then(|source| source.height),
        fps: video.map(|video| video.rate.as_f64()),
        codecs,
        streams,
        streaming: StreamingDto {
            formats,
            renditions: dto.renditions.into_iter().collect::<Vec<RenditionDto>>(),
            hls_url: dto.hls_url,
            dash_url: dto.dash_url,
        },
        analytics,
    }))
}

/// Get a viewer's way in.
///
/// The token stands in the path, so that relative URIs inherit it; all viewers of a recording share it for some hours, so that
/// a CDN can cache.
#[utoipa::path(post, path = "/recordings/{id}/playback-token", tag = "recordings", params(("id" = RecordingId, Path)),
    responses(
    (status = 201, description = "A token and the URLs it opens.", body = PlaybackTokenDto),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
))]
pub(crate) async fn playback_token(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<RecordingId>,
) -> Answer<Response> {
    caller.need(Scope::Read)?;
    let recording = find(&app, &caller, id).await?;
    let (token, expires_at) = viewer_token(&app, recording.id).await?;
    let base = format!("{}/v/{token}", app.media_url(&headers).await);
    let has_storyboard = stills::storyboard(&app.db, recording.id).await?.is_some();
    let dto = PlaybackTokenDto {
        expires_at,
        hls_url: format!("{base}/stream/master.m3u8"),
        dash_url: format!("{base}/stream/manifest.mpd"),
        thumbnail_url: format!("{base}/thumbnail"),
        storyboard_url: has_storyboard.then(|| format!("{base}/storyboard.vtt")),
        renew_url: format!("{}/v/{token}/renew", app.public_url(&headers)),
        token,
    };
    Ok((StatusCode::CREATED, Json(dto)).into_response())
}

/// Take back what viewers have.
///
/// All tokens of the recording that were given out so far end within seconds, on every api; a CDN that is told what to forget forgets the
/// recording. The next `POST` gives another one.
#[utoipa::path(delete, path = "/recordings/{id}/playback-token", tag = "recordings", params(("id" = RecordingId, Path)),
    responses(
    (status = 204, description = "They are worth nothing any more."),
    (status = 404, description = "There is no such recording.", body = ProblemDocument),
))]
pub(crate) async fn revoke_tokens(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RecordingId>,
) -> Answer<StatusCode> {
    caller.need(Scope::Write)?;
    let id = find(&app, &caller, id).await?.id;
    tokens::revoke(&app, id.0, SurrogateKey::Recording(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The token viewers of a recording share at the moment. Its age does not delete the recording before that ends.
pub(crate) async fn viewer_token(app: &App, id: RecordingId) -> Answer<(String, DateTime<chrono::Utc>)> {
    let (token, expires_at) = tokens::give(app, Purpose::PlayRecording, id.0).await;
    if !recordings::keep(&app.db, id, expires_at).await? {
        return Err(Problem::not_found("recording", id));
    }
    Ok((token, expires_at))
}
