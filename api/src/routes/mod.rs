//! One file a resource. A new one is a file and a line in [`api`].

pub(crate) mod abr;
pub(crate) mod cdn;
pub(crate) mod deliveries;
pub(crate) mod downloads;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod job_control;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod live_recordings;
pub(crate) mod live_viewer;
pub(crate) mod livestreams;
pub(crate) mod playback;
pub(crate) mod playback_viewer;
pub(crate) mod profiles;
pub(crate) mod projects;
pub(crate) mod quality;
pub(crate) mod queues;
pub(crate) mod recordings;
pub(crate) mod retention;
pub(crate) mod segments;
pub(crate) mod sockets;
pub(crate) mod storyboard;
pub(crate) mod stream;
pub(crate) mod streams;
pub(crate) mod thumbnails;
pub(crate) mod transcode;
pub(crate) mod uploads;
pub(crate) mod viewer;
pub(crate) mod viewing;
pub(crate) mod webhooks;
pub(crate) mod workers;

use axum::middleware::map_response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::App;

/// Everything under `/api/v1`.
pub(crate) fn api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(jobs::create, jobs::list))
        .routes(routes!(jobs::get, job_control::update))
        .routes(routes!(jobs::cancel))
        .routes(routes!(job_control::retry))
        .routes(routes!(jobs::log))
        .routes(routes!(events::of_job))
        .routes(routes!(events::all))
        .routes(routes!(recordings::create, recordings::list))
        .routes(routes!(recordings::get, recordings::update, recordings::delete))
        .routes(routes!(recordings::info))
        .routes(routes!(recordings::playback_token, recordings::revoke_tokens))
        .routes(routes!(transcode::quality))
        .routes(routes!(quality::recommended))
        .routes(routes!(quality::prefer, quality::preferred, quality::forget))
        .routes(routes!(viewing::progress))
        .routes(routes!(viewing::access_log))
        .routes(routes!(viewing::analytics))
        .routes(routes!(transcode::progress))
        .routes(routes!(stream::file))
        .routes(routes!(live_recordings::start))
        .routes(routes!(live_recordings::stop))
        .routes(routes!(sockets::recording))
        .routes(routes!(downloads::download))
        .routes(routes!(downloads::convert))
        .routes(routes!(thumbnails::of_recording))
        .routes(routes!(storyboard::of_recording))
        .merge(live())
        .merge(playback())
        .merge(distribution())
        .routes(routes!(abr::metrics))
        .routes(routes!(abr::select))
        .routes(routes!(abr::session))
        .routes(routes!(profiles::create, profiles::list))
        .routes(routes!(profiles::get, profiles::replace, profiles::delete))
        .merge(tus())
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(projects::create, projects::list))
        .routes(routes!(projects::get, projects::update, projects::delete))
        .routes(routes!(retention::due))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::get, webhooks::update, webhooks::delete))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::rotate_secret))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::replay))
        .routes(routes!(deliveries::replay_span))
        .routes(routes!(workers::list))
        .routes(routes!(workers::drain))
        .routes(routes!(workers::resume))
        .routes(routes!(queues::list))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
}

fn live() -> OpenApiRouter<App> {
    use livestreams::{control, convert, history, import, viewers};
    OpenApiRouter::new()
        .routes(routes!(livestreams::create, livestreams::list))
        .routes(routes!(livestreams::get, livestreams::update, livestreams::delete))
        .routes(routes!(control::start))
        .routes(routes!(control::stop))
        .routes(routes!(control::pause))
        .routes(routes!(control::resume))
        .routes(routes!(control::rotate_key))
        .routes(routes!(control::playback_token, control::revoke_tokens))
        .routes(routes!(history::recordings))
        .routes(routes!(history::recording))
        .routes(routes!(history::thumbnail))
        .routes(routes!(convert::convert))
        .routes(routes!(import::import))
        .routes(routes!(history::analytics))
        .routes(routes!(history::events))
        .routes(routes!(viewers::track))
        .routes(routes!(viewers::list))
        .routes(routes!(live_viewer::stream))
        .routes(routes!(sockets::livestream))
        .routes(routes!(live_viewer::recorded))
        .routes(routes!(live_viewer::thumbnail))
}

fn playback() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(playback::start))
        .routes(routes!(playback::start_live))
        .routes(routes!(playback::get, playback::end))
        .routes(routes!(playback::extend))
        .routes(routes!(playback::playlist))
        .routes(routes!(playback::segment))
        .routes(routes!(playback::export))
}

fn distribution() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(streams::start))
        .routes(routes!(streams::join, streams::get, streams::leave))
        .routes(routes!(streams::adapt))
        .routes(routes!(streams::metrics))
        .routes(routes!(cdn::get, cdn::turn))
        .routes(routes!(cdn::warm))
        .routes(routes!(segments::deliver))
        .routes(routes!(segments::get))
        .routes(routes!(segments::health))
}

fn tus() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(uploads::options, uploads::create))
        .routes(routes!(uploads::head, uploads::patch, uploads::delete))
        .layer(map_response(uploads::speak_tus))
}
