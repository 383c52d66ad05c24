//! Sends deliveries that are due. Their leases keep one from being sent twice at once, not the lead: what is under way when the
//! lead is lost goes on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reelmill_shared::auth::seal::Sealer;
use reelmill_shared::config::SchedulerConfig;
use reelmill_shared::db::deliveries::{self, Claimed, Failed, Report, Wanted};
use reelmill_shared::db::leader::Leadership;
use reelmill_shared::db::{Db, DbError};
use reelmill_shared::webhook::{Answer, Message, Secret, Sender, Verdict, granted, wait};
use tokio::sync::Semaphore;

use super::{Context, Duty, Failure};

pub(super) struct Deliver {
    /// To endpoints that received the last thing they were sent.
    sound: Arc<Semaphore>,
    /// To the others. Apart, so that any number of them, and however long they hang, leaves room for those that work.
    doubtful: Arc<Semaphore>,
}

/// Attempts that may be under way to one receiver.
const PER_RECEIVER: i64 = 4;
/// An attempt has this beyond the time it gives its receiver: for waiting for the database, and reading what was said.
const MARGIN: Duration = Duration::from_secs(10);

impl Deliver {
    pub(super) fn new(config: &SchedulerConfig) -> Self {
        let half = config.webhook_concurrency / 2;
        let sound = Arc::new(Semaphore::new(config.webhook_concurrency - half));
        Self { sound, doubtful: Arc::new(Semaphore::new(half)) }
    }
}

#[async_trait]
impl Duty for Deliver {
    async fn run(&self, context: &Context, _leadership: &Leadership) -> Result<u64, Failure> {
        let lease = context.config.webhooks.timeout + MARGIN;
        for (doubtful, slots) in [(false, &self.sound), (true, &self.doubtful)] {
            let limit = slots.available_permits() as i64;
            if limit == 0 {
                continue;
            }
            let wanted = Wanted { doubtful, limit, per_receiver: PER_RECEIVER, lease };
            for claimed in deliveries::claim(&context.db, wanted).await? {
                let attempt = Attempt::new(context, claimed);
                // Nobody else takes any, so there is one for each that was claimed.
                let slot = Arc::clone(slots).acquire_owned().await;
                context.background.spawn(async move {
                    attempt.make().await;
                    drop(slot);
                });
            }
        }
        // Counted by outcome.
        Ok(0)
    }
}

/// One attempt at a delivery.
struct Attempt {
    db: Db,
    sender: Sender,
    sealer: Sealer,
    /// How long an endpoint may fail before it is disabled.
    patience: Duration,
    claimed: Claimed,
}

impl Attempt {
    fn new(context: &Context, claimed: Claimed) -> Self {
        Self {
            db: context.db.clone(),
            sender: context.sender.clone(),
            sealer: context.config.secret.sealer.clone(),
            patience: context.config.webhook_patience,
            claimed,
        }
    }

    async fn make(self) {
        let answer = self.send().await;
        let outcome = match self.report(&answer).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => "lost",
            Err(error) => {
                // Not known whether it was received, so it is sent again when its lease has ended: the id tells.
                tracing::warn!(%error, delivery_id = %self.claimed.id, "could not report a delivery");
                "lost"
            }
        };
        tracing::debug!(
            delivery_id = %self.claimed.id, webhook_id = %self.claimed.webhook_id, event_id = %self.claimed.event_id,
            attempt = self.claimed.attempts, status = answer.status.map(|status| status.as_u16()), outcome,
            "attempted a delivery"
        );
        metrics::counter!("reelmill_webhook_attempts_total", "outcome" => outcome).increment(1);
    }

    async fn send(&self) -> Answer {
        let claimed = &self.claimed;
        let open = |sealed: &Vec<u8>| Secret::open(&self.sealer, claimed.webhook_id, sealed);
        let secrets = claimed.secrets.iter().map(open).collect::<Result<Vec<_>, _>>();
        let (secrets, url) = match (secrets, claimed.url.parse()) {
            (Ok(secrets), Ok(url)) => (secrets, url),
            (Err(error), _) => {
                tracing::error!(%error, webhook_id = %claimed.webhook_id, "a webhook's secret was sealed by another REELMILL_SECRET_KEY");
                return unsent(Verdict::Again(None), "the webhook's secret cannot be read; rotate it");
            }
            (_, Err(_)) => return unsent(Verdict::Refused, "the address does not read"),
        };
        let message = Message { url: &url, id: claimed.event_id, body: &claimed.body, secrets: &secrets };
        self.sender.send(&message).await
    }

    /// Writes down what came of it. `None` where the delivery was another sender's by then.
    async fn report(&self, answer: &Answer) -> Result<Option<&'static str>, DbError> {
        let claimed = &self.claimed;
        let report = Report {
            status: answer.status.map(|status| i32::from(status.as_u16())),
            error: answer.error.clone(),
            response: answer.response.clone(),
            duration_ms: i32::try_from(answer.took.as_millis()).unwrap_or(i32::MAX),
        };
        let (outcome, failed) = match answer.verdict {
            Verdict::Delivered => {
                let mine = deliveries::succeed(&self.db, claimed, &report).await?;
                return Ok(mine.then_some("delivered"));
            }
            Verdict::Gone => ("dead", Failed::Gone),
            Verdict::Refused => ("dead", Failed::Dead),
            Verdict::Again(asked) => match wait(claimed.attempts, asked) {
                Some(wait) => ("failed", Failed::Again { wait, quiet: granted(asked) }),
                None => ("dead", Failed::Dead),
            },
        };
        let mine = deliveries::fail(&self.db, claimed, &report, failed, self.patience).await?;
        Ok(mine.then_some(outcome))
    }
}

/// Nothing was sent.
fn unsent(verdict: Verdict, error: &str) -> Answer {
    Answer { verdict, status: None, error: Some(error.to_owned()), response: None, took: Duration::ZERO }
}
