//! One attempt: a signed POST through the guarded client, and what came of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;
use uuid::Uuid;

use super::Secret;
use crate::net::{GuardedClient, Limits, NetError, NetPolicy};

/// Sends messages. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    client: GuardedClient,
    limits: Limits,
}

/// What is sent to whom.
#[derive(Debug)]
pub struct Message<'a> {
    pub url: &'a Url,
    /// The event's id: the same in every attempt, so that a receiver can tell what it has seen.
    pub id: Uuid,
    pub body: &'a str,
    /// All of them sign: there are two while one takes the other's place.
    pub secrets: &'a [Secret],
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub struct Answer {
    pub verdict: Verdict,
    pub status: Option<StatusCode>,
    /// Why it failed, for the owner of the webhook.
    pub error: Option<String>,
    /// The beginning of what the receiver said.
    pub response: Option<String>,
    pub took: Duration,
}

/// What is to be done after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was received.
    Delivered,
    /// It was not; perhaps later, but not before the receiver's `Retry-After`.
    Again(Option<Duration>),
    /// 410: nobody wants to hear of it any more.
    Gone,
    /// It may not be sent there at all.
    Refused,
}

impl Sender {
    /// A sender under this policy that gives a receiver so long to answer.
    ///
    /// # Errors
    /// As [`GuardedClient::new`].
    pub fn new(policy: NetPolicy, patience: Duration) -> Result<Self, NetError> {
        let limits = Limits::webhook(patience);
        Ok(Self { client: GuardedClient::new(policy, limits.clone())?, limits })
    }

    /// Which addresses it may send to.
    pub fn policy(&self) -> &NetPolicy {
        self.client.policy()
    }

    /// Sends a message, once. Takes no longer than the sender's patience and a moment for reading what the receiver says.
    pub async fn send(&self, message: &Message<'_>) -> Answer {
        let started = Instant::now();
        let body = Bytes::copy_from_slice(message.body.as_bytes());
        let sent = self.client.post(message.url, headers(message), body, self.limits.clone()).await;
        match sent {
            Ok(response) => {
                let status = response.status();
                let response = response.excerpt().await;
                let (verdict, status) = (Verdict::Delivered, Some(status));
                let response = Some(response).filter(|said| !said.is_empty());
                Answer { verdict, status, error: None, response, took: started.elapsed() }
            }
            Err(error) => {
                let (verdict, status) = (verdict(&error), error.status());
                let text = told(&error);
                let response = match error {
                    NetError::Status { excerpt, .. } => Some(excerpt).filter(|said| !said.is_empty()),
                    _ => None,
                };
                Answer { verdict, status, error: Some(text), response, took: started.elapsed() }
            }
        }
    }
}

fn headers(message: &Message<'_>) -> HeaderMap {
    let (id, timestamp) = (message.id.to_string(), Utc::now().timestamp());
    let sign = |secret: &Secret| secret.sign(&id, timestamp, message.body.as_bytes());
    let signatures: Vec<String> = message.secrets.iter().map(sign).collect();
    let pairs = [
        ("webhook-id", id.clone()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signatures.join(" ")),
    ];
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in pairs {
        // Letters, digits, base64: always a header.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

fn verdict(error: &NetError) -> Verdict {
    match error {
        NetError::Status { status: StatusCode::GONE, .. } => Verdict::Gone,
        NetError::Status {
            status: StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE,
            retry_after,
            ..
        } => Verdict::Again(*retry_after),
        NetError::Refused { .. } | NetError::Scheme(_) => Verdict::Refused,
        // Whatever else is wrong (a certificate, a name, a page that has moved), somebody may mend it.
        _ => Verdict::Again(None),
    }
}

fn told(error: &NetError) -> String {
    match error {
        NetError::Status { status, .. } if status.is_redirection() => {
            format!("answered {status}: redirects are not followed, give the address they lead to")
        }
        NetError::Status { status, .. } => format!("answered {status}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, retry_after: Option<u64>) -> NetError {
        NetError::Status {
            url: "https://example.com/".into(),
            status: StatusCode::from_u16(code).unwrap(),
            retry_after: retry_after.map(Duration::from_secs),
            excerpt: String::new(),
        }
    }

    #[test]
    fn each_answer_means_something() {
        assert_eq!(verdict(&status(410, None)), Verdict::Gone);
        assert_eq!(verdict(&status(503, Some(7))), Verdict::Again(Some(Duration::from_secs(7))));
        assert_eq!(verdict(&status(429, None)), Verdict::Again(None));
        assert_eq!(verdict(&status(500, Some(7))), Verdict::Again(None), "only 429 and 503 say when");
        assert_eq!(verdict(&status(404, None)), Verdict::Again(None));
        assert_eq!(verdict(&NetError::Scheme("ftp".into())), Verdict::Refused);
        assert!(told(&status(302, None)).contains("redirects are not followed"));
    }

    #[test]
    fn a_message_is_signed_by_every_secret() {
        let (url, secrets) = ("https://example.com/".parse().unwrap(), [Secret::random(), Secret::random()]);
        let message = Message { url: &url, id: Uuid::nil(), body: "{}", secrets: &secrets };
        let headers = headers(&message);
        let text = |name: &str| headers[name].to_str().unwrap();
        assert_eq!(text("webhook-signature").split(' ').count(), 2);
        for secret in &secrets {
            let now = Utc::now().timestamp();
            let (id, time) = (text("webhook-id"), text("webhook-timestamp"));
            super::super::verify(secret, id, time, text("webhook-signature"), b"{}", now).unwrap();
        }
    }
}
