//! The pages. Rendered here, without inline scripts or styles, under a strict content security policy.

use askama::Template;
use axum::Form;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use reelmill_shared::auth::token::Purpose;
use reelmill_shared::auth::{Scope, allows, hash_key};
use reelmill_shared::db::jobs::{self, JobFilter};
use reelmill_shared::db::recordings::{self, Recording, RecordingFilter};
use reelmill_shared::db::tasks;
use reelmill_shared::db::{keys, livestreams, pictures, stills};
use reelmill_shared::ids::{JobId, KeyId, LivestreamId, PlaybackSessionId, RecordingId};
use reelmill_shared::job::error::Reason;
use reelmill_shared::job::state::{Access, JobStatus};
use serde::Deserialize;

use crate::assets::player_available;
use crate::auth::{Caller, SESSION_COOKIE, from_another_site, session};
use crate::dto::job::JobDto;
use crate::extract::{Path, Query};
use crate::on_air::{self, LiveRow};
use crate::problem::{Answer, Kind, Problem, request_id};
use crate::routes::livestreams::control::live_token;
use crate::routes::recordings::viewer_token;
use crate::routes::thumbnails::{USUAL, has_poster};
use crate::routes::{live_viewer, playback, playback_viewer};
use crate::state::{App, now};

/// How long a login lasts.
const SESSION_SECONDS: u64 = 7 * 24 * 3600;
const RECORDINGS_A_PAGE: i64 = 24;
const JOBS_A_PAGE: i64 = 12;

#[derive(Template)]
#[template(path = "watch.html")]
struct WatchPage {
    id: String,
    kind: &'static str,
    title: String,
    status: String,
    created_at: String,
    duration_seconds: String,
    master_url: String,
    poster_url: String,
    storyboard_url: String,
    info_url: String,
    renew_url: String,
    expires_at: String,
    player_available: bool,
}

#[derive(Template)]
#[template(path = "footage.html")]
struct FootagePage {
    title: String,
    start_time: String,
    end_time: String,
    playlist_url: String,
    export_url: String,
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    base_url: String,
    can_upload: bool,
    recordings: Vec<RecordingCard>,
    more_url: String,
    livestreams: Vec<LiveRow>,
    jobs: Vec<JobRow>,
}

struct RecordingCard {
    id: String,
    title: String,
    watch_url: String,
    poster_url: String,
    status: String,
    duration: String,
    age: String,
    created_at: String,
}

struct JobRow {
    id: String,
    kind: String,
    title: String,
    watch_url: String,
    status: String,
    percent: u8,
    detail: String,
    error: String,
    age: String,
    created_at: String,
    act: Option<Act>,
}

/// What can be done about a job.
enum Act {
    Cancel,
    Retry,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    next: String,
    error: String,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    status: u16,
    title: String,
    detail: String,
    request_id: String,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    name: String,
    title: String,
    status: u16,
    status_class: String,
    meaning: String,
    remedies: Vec<String>,
    example: String,
}

#[derive(Template)]
#[template(path = "docs.html")]
struct DocsPage {
    base_url: String,
}

/// A problem shown to a person.
pub(crate) struct PageProblem(Problem);

impl<P: Into<Problem>> From<P> for PageProblem {
    fn from(problem: P) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for PageProblem {
    fn into_response(self) -> Response {
        let meaning = self.0.kind().meaning();
        let page = ErrorPage {
            status: meaning.status.as_u16(),
            title: meaning.title.to_owned(),
            detail: self.0.detail().to_owned(),
            request_id: request_id(),
        };
        (meaning.status, render(&page)).into_response()
    }
}

fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => ([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The viewer's session, or the way to the login page.
async fn logged_in(app: &App, headers: &HeaderMap, next: &str) -> Result<Caller, Response> {
    match session(app, headers).await {
        Ok(Some(caller)) => Ok(caller),
        Ok(None) => {
            let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
            Err(Redirect::to(&format!("/login?next={next}")).into_response())
        }
        Err(problem) => Err(PageProblem(problem).into_response()),
    }
}

/// Parameters of the home page.
#[derive(Debug, Deserialize)]
pub(crate) struct HomeQuery {
    after: Option<RecordingId>,
}

/// `/`: what there is and what is being done.
pub(crate) async fn home(
    State(app): State<App>,
    headers: HeaderMap,
    Query(query): Query<HomeQuery>,
) -> Result<Response, PageProblem> {
    let caller = match logged_in(&app, &headers, "/").await {
        Ok(caller) => caller,
        Err(elsewhere) => return Ok(elsewhere),
    };
    caller.need(Scope::Read)?;
    let project = caller.project_id;
    let filter = RecordingFilter::default();
    let rows = recordings::list(&app.db, project, filter, query.after, RECORDINGS_A_PAGE).await?;
    let last = rows.last().filter(|_| rows.len() as i64 == RECORDINGS_A_PAGE);
    let more_url = last.map_or(String::new(), |recording| format!("/?after={}", recording.id));
    let with_picture: Vec<RecordingId> = rows.iter().map(|recording| recording.id).collect();
    let with_picture = pictures::with_poster(&app.db, &with_picture, USUAL).await?;
    let recordings = rows
        .into_iter()
        .map(|recording| {
            let picture = with_picture.contains(&recording.id);
            card(recording, picture)
        })
        .collect();
    let jobs = recent_jobs(&app, project).await?;
    let livestreams =
        if allows(&caller.scopes, Scope::LiveRead) { on_air::rows(&app, project).await? } else { vec![] };
    Ok(render(&HomePage {
        base_url: app.public_url(&headers),
        can_upload: allows(&caller.scopes, Scope::Write),
        recordings,
        more_url,
        livestreams,
        jobs,
    }))
}

fn card(recording: Recording, has_picture: bool) -> RecordingCard {
    RecordingCard {
        id: recording.id.to_string(),
        watch_url: format!("/watch/{}", recording.id),
        poster_url: if has_picture {
            format!("/api/v1/recordings/{}/thumbnail", recording.id)
        } else {
            String::new()
        },
        title: recording.title,
        status: match &recording.error {
            Some(error) if error.reason == Reason::Cancelled => JobStatus::Cancelled.to_string(),
            _ => recording.status.to_string(),
        },
        duration: recording.duration_seconds.map(clock).unwrap_or_default(),
        age: age(recording.created_at),
        created_at: rfc3339(recording.created_at),
    }
}

async fn recent_jobs(app: &App, project: reelmill_shared::ids::ProjectId) -> Answer<Vec<JobRow>> {
    let jobs = jobs::list(&app.db, project, JobFilter::default(), None, JOBS_A_PAGE).await?;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let mut all_tasks = tasks::of_jobs(&app.db, &ids).await?;
    let titles: Vec<RecordingId> = jobs.iter().filter_map(|job| job.recording_id).collect();
    let titles = recordings::titles(&app.db, &titles).await?;
    let retried: Vec<JobId> = jobs.iter().filter_map(|job| job.retry_of).collect();
    Ok(jobs
        .into_iter()
        .map(|job| {
            let is_retried = retried.contains(&job.id);
            let tasks = all_tasks.remove(&job.id).unwrap_or_default();
            let title = job.recording_id.and_then(|id| titles.get(&id).cloned());
            job_row(JobDto::listed(job, tasks), title, is_retried)
        })
        .collect())
}

/// `retried`: another job does what this one did not.
fn job_row(job: JobDto, title: Option<String>, retried: bool) -> JobRow {
    let mut detail: Vec<String> = job.phase.iter().cloned().collect();
    detail.extend(job.fps.map(|fps| format!("{fps:.0} frames/s")));
    detail.extend(job.eta_seconds.map(|eta| format!("{} left", clock(f64::from(eta)))));
    if let Some(run) = job.timings.run {
        detail = vec![format!("took {run:.1} s")];
    }
    let act = match job.status {
        JobStatus::Queued | JobStatus::Running => Some(Act::Cancel),
        // A job whose recording was deleted has nothing to go on with.
        JobStatus::Failed | JobStatus::Cancelled if title.is_some() && !retried => Some(Act::Retry),
        _ => None,
    };
    JobRow {
        id: job.id.to_string(),
        kind: job.kind.to_string(),
        watch_url: match (&title, job.recording_id) {
            (Some(_), Some(id)) => format!("/watch/{id}"),
            _ => String::new(),
        },
        title: title.unwrap_or_else(|| untitled(job.recording_id).to_owned()),
        status: job.status.to_string(),
        act,
        percent: (job.progress * 100.0).clamp(0.0, 100.0) as u8,
        detail: detail.join(" · "),
        error: job.error.map(|error| error.message).unwrap_or_default(),
        age: age(job.created_at),
        created_at: rfc3339(job.created_at),
    }
}

/// What a job is called that has no title: a dry run has no recording, and what a recording was called goes with it.
fn untitled(recording: Option<RecordingId>) -> &'static str {
    if recording.is_some() { "deleted recording" } else { "looked into a source" }
}

/// `/watch/{recording}`: the player. Public recordings play for everybody, others for those logged in to their project.
pub(crate) async fn watch(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<RecordingId>,
) -> Result<Response, PageProblem> {
    let recording = recordings::find(&app.db, id).await?;
    if !recording.as_ref().is_some_and(|recording| recording.access == Access::Public) {
        // Asked before anything is said: whether a recording exists is nobody else's business.
        let caller = match logged_in(&app, &headers, &format!("/watch/{id}")).await {
            Ok(caller) => caller,
            Err(elsewhere) => return Ok(elsewhere),
        };
        caller.need(Scope::Read)?;
        if recording.as_ref().is_none_or(|recording| recording.project_id != caller.project_id) {
            return Err(Problem::not_found("recording", id).into());
        }
    }
    let recording = recording.ok_or_else(|| Problem::not_found("recording", id))?;
    let (token, expires_at) = viewer_token(&app, recording.id).await?;
    let has_picture = has_poster(&app, id).await?;
    let has_storyboard = stills::storyboard(&app.db, id).await?.is_some();
    // Empty: where the page is from.
    let media = app.cdn.base().await.unwrap_or_default();
    Ok(render(&WatchPage {
        id: recording.id.to_string(),
        kind: "recording",
        title: recording.title,
        status: recording.status.to_string(),
        created_at: rfc3339(recording.created_at),
        duration_seconds: recording
            .duration_seconds
            .map(|seconds| format!("{seconds:.3}"))
            .unwrap_or_default(),
        master_url: format!("{media}/v/{token}/stream/master.m3u8"),
        poster_url: if has_picture { format!("{media}/v/{token}/thumbnail") } else { String::new() },
        storyboard_url: if has_storyboard {
            format!("{media}/v/{token}/storyboard.vtt")
        } else {
            String::new()
        },
        info_url: format!("/v/{token}/info"),
        renew_url: format!("/v/{token}/renew"),
        expires_at: rfc3339(expires_at),
        player_available: player_available(),
    }))
}

/// Parameters of the page of a livestream.
#[derive(Debug, Deserialize)]
pub(crate) struct WatchLiveQuery {
    /// A viewer's token, in place of a login.
    token: Option<String>,
}

/// `/watch/live/{id}`: plays what is on air, and waits for it until then.
pub(crate) async fn watch_live(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<LivestreamId>,
    Query(query): Query<WatchLiveQuery>,
) -> Result<Response, PageProblem> {
    let stream = livestreams::find(&app.db, id).await?;
    match &query.token {
        Some(token) => drop(live_viewer::check(&app, token, id)?),
        None => {
            let caller = match logged_in(&app, &headers, &format!("/watch/live/{id}")).await {
                Ok(caller) => caller,
                Err(elsewhere) => return Ok(elsewhere),
            };
            caller.need(Scope::LiveRead)?;
            if stream.as_ref().is_none_or(|stream| stream.project_id != caller.project_id) {
                return Err(Problem::not_found("livestream", id).into());
            }
        }
    }
    let stream = stream.ok_or_else(|| Problem::not_found("livestream", id))?;
    let (token, expires_at) = live_token(&app, id).await;
    Ok(render(&WatchPage {
        id: id.to_string(),
        kind: "livestream",
        title: stream.terms.title,
        status: stream.status.to_string(),
        created_at: String::new(),
        duration_seconds: String::new(),
        master_url: format!("{}/v/{token}/live/{id}/master.m3u8", app.cdn.base().await.unwrap_or_default()),
        poster_url: String::new(),
        storyboard_url: String::new(),
        info_url: format!("/v/{token}/live/{id}/info"),
        renew_url: format!("/v/{token}/live/{id}/renew"),
        expires_at: rfc3339(expires_at),
        player_available: player_available(),
    }))
}

/// `/watch/playback/{id}`: footage of a camera, for whoever has a token of the session, or may read livestreams of its project.
pub(crate) async fn watch_playback(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<PlaybackSessionId>,
    Query(query): Query<WatchLiveQuery>,
) -> Result<Response, PageProblem> {
    let session = match &query.token {
        Some(token) => playback_viewer::opened(&app, token, id).await?,
        None => {
            let caller = match logged_in(&app, &headers, &format!("/watch/playback/{id}")).await {
                Ok(caller) => caller,
                Err(elsewhere) => return Ok(elsewhere),
            };
            playback::own(&app, &caller, id).await?
        }
    };
    let missing = || Problem::not_found("recorded footage in session", id);
    let (start, end) = session.span.ok_or_else(missing)?;
    let livestream = livestreams::find(&app.db, session.livestream).await?.ok_or_else(missing)?;
    let base = format!("/v/{}/playback/{id}", playback::session_token(&app, &session));
    Ok(render(&FootagePage {
        title: livestream.terms.title,
        start_time: start.to_rfc3339_opts(SecondsFormat::Millis, true),
        end_time: end.to_rfc3339_opts(SecondsFormat::Millis, true),
        playlist_url: format!(
            "{}{base}/playlist.m3u8?container=fmp4",
            app.cdn.base().await.unwrap_or_default()
        ),
        export_url: format!("{base}/export.mp4"),
    }))
}

/// Parameters of the login page.
#[derive(Debug, Deserialize)]
pub(crate) struct LoginQuery {
    /// A login link's token.
    token: Option<String>,
    next: Option<String>,
}

/// `/login`: a form, or with a link's token straight in.
pub(crate) async fn login(
    State(app): State<App>,
    Query(query): Query<LoginQuery>,
) -> Result<Response, PageProblem> {
    let next = local_path(query.next.as_deref());
    let Some(token) = query.token else {
        return Ok(render(&LoginPage { next, error: String::new() }));
    };
    let key = match app.signer().verify(Purpose::Login, &token, now()) {
        Ok(verified) => keys::get_valid(&app.db, KeyId(verified.subject)).await?,
        Err(_) => None,
    };
    match key {
        Some(key) => Ok(open_session(&app, key.id, &next)),
        None => {
            let error = "This login link is not valid any more. Enter an API key.".to_owned();
            Ok((StatusCode::FORBIDDEN, render(&LoginPage { next, error })).into_response())
        }
    }
}

/// What the login form sends.
#[derive(Debug, Deserialize)]
pub(crate) struct LoginForm {
    key: String,
    next: Option<String>,
}

/// Checks a key and opens a session.
pub(crate) async fn log_in(
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, PageProblem> {
    // Else another page could log its visitor in here as somebody of its choice, and read what is uploaded then.
    if from_another_site(&headers) {
        return Err(Problem::new(Kind::Forbidden, "a login must come from our own page").into());
    }
    let next = local_path(form.next.as_deref());
    match keys::find_valid(&app.db, &hash_key(form.key.trim())).await? {
        Some(key) => Ok(open_session(&app, key.id, &next)),
        None => {
            let error = "This key is unknown, expired or revoked.".to_owned();
            Ok((StatusCode::FORBIDDEN, render(&LoginPage { next, error })).into_response())
        }
    }
}

fn open_session(app: &App, key: KeyId, next: &str) -> Response {
    let token = app.signer().sign(Purpose::Session, key.0, now() + SESSION_SECONDS);
    let secure =
        app.config.tls.is_some() || app.config.public_url.as_ref().is_some_and(|url| url.scheme() == "https");
    let secure = if secure { "; Secure" } else { "" };
    // Lax, not Strict: a login link from a terminal or a mail must arrive logged in.
    let cookie = format!(
        "{SESSION_COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={SESSION_SECONDS}{secure}"
    );
    let mut response = Redirect::to(next).into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Where to go after the login: only to our own pages.
fn local_path(next: Option<&str>) -> String {
    // Browsers take a backslash for a slash, and pass over tabs and line ends: "/\t/evil" would lead away.
    let odd = |c: char| c == '\\' || c.is_control();
    let ours = |path: &&str| path.starts_with('/') && !path.starts_with("//") && !path.contains(odd);
    next.filter(ours).unwrap_or("/").to_owned()
}

/// `/docs`: the API, readable.
pub(crate) async fn docs(State(app): State<App>, headers: HeaderMap) -> Response {
    render(&DocsPage { base_url: app.public_url(&headers) })
}

/// `/problems/{name}`: what a kind of problem means and what to do.
pub(crate) async fn problem(Path(name): Path<String>) -> Result<Response, PageProblem> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.meaning().name == name);
    let meaning = kind.ok_or_else(|| Problem::not_found("kind of problem", &name))?.meaning();
    let example = serde_json::json!({
        "type": format!("/problems/{name}"),
        "title": meaning.title,
        "status": meaning.status.as_u16(),
        "detail": "…",
        "request_id": "…",
    });
    Ok(render(&ProblemPage {
        name,
        title: meaning.title.to_owned(),
        status: meaning.status.as_u16(),
        status_class: (meaning.status.as_u16() / 100).to_string(),
        meaning: meaning.means.to_owned(),
        remedies: vec![meaning.remedy.to_owned()],
        example: serde_json::to_string_pretty(&example).unwrap_or_default(),
    }))
}

/// For paths that lead nowhere: people get a page, programs a problem document.
pub(crate) async fn nowhere(headers: HeaderMap, uri: axum::http::Uri) -> Response {
    let problem = Problem::new(Kind::NotFound, format!("there is nothing at {}", uri.path()));
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("text/html") { PageProblem(problem).into_response() } else { problem.into_response() }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn clock(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn age(time: DateTime<Utc>) -> String {
    let minutes = (Utc::now() - time).num_minutes();
    match minutes {
        ..1 => "just now".to_owned(),
        1..60 => format!("{minutes} min ago"),
        60..1440 => format!("{} h ago", minutes / 60),
        _ => format!("{} d ago", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_our_own_pages_only() {
        assert_eq!(local_path(Some("/watch/1")), "/watch/1");
        for bad in
            ["//evil.example", "https://evil.example", "/\\evil", "/\t/evil", "/\r\n/evil", "", "watch"]
        {
            assert_eq!(local_path(Some(bad)), "/", "{bad}");
        }
    }

    #[test]
    fn a_dry_run_is_no_deleted_recording() {
        assert_eq!(untitled(None), "looked into a source");
        assert_eq!(untitled(Some(RecordingId::new())), "deleted recording");
    }

    #[test]
    fn clocks_read_like_clocks() {
        assert_eq!(clock(64.0), "1:04");
        assert_eq!(clock(3723.4), "1:02:03");
    }
}
