//! Where a job's events are sent besides the project's webhooks.

use reelmill_shared::db::webhooks;
use reelmill_shared::ids::WebhookId;
use reelmill_shared::media::profile::FieldError;
use reelmill_shared::webhook::{Secret, receiver};
use url::Url;

use super::fault;
use crate::auth::Caller;
use crate::problem::Answer;
use crate::state::App;

/// Reads a job's `callback_url`.
pub(super) fn callback(app: &App, text: Option<&str>, faults: &mut Vec<FieldError>) -> Option<Url> {
    match receiver(app.sender.policy(), text?) {
        Ok(url) => Some(url),
        Err(detail) => {
            faults.push(fault("/callback_url", detail));
            None
        }
    }
}

/// Makes sure that there is a secret to sign callbacks of the project with.
pub(super) async fn prepare(app: &App, caller: &Caller) -> Answer<()> {
    if webhooks::has_callbacks(&app.db, caller.project_id).await? {
        return Ok(());
    }
    let id = WebhookId::new();
    let sealed = Secret::random().seal(&app.config.secret.sealer, id)?;
    Ok(webhooks::ensure_callbacks(&app.db, caller.project_id, id, &sealed).await?)
}
