//! Requests to the farm: authorised, bounded in time, repeated where that helps, errors in plain words.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{self, HeaderValue};
use reqwest::{Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::sleep;
use url::Url;

use super::connection::Address;
use super::failure::{Failure, Problem, Refusal};

const CONNECT: Duration = Duration::from_secs(5);
/// For a whole request and its answer. Uploads and event streams have bounds of their own.
const ANSWER: Duration = Duration::from_secs(30);
/// Notices a peer that vanished without a word, also where nothing is being sent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Waits before a request is sent again.
const REPEATS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

/// A farm to talk to.
#[derive(Debug, Clone)]
pub(crate) struct Farm {
    http: Client,
    address: Address,
    authorization: HeaderValue,
}

/// An answer as it came, and the part of it that is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Document<T> {
    pub(crate) text: String,
    pub(crate) view: T,
}

impl Farm {
    /// Prepares to talk to a farm; nothing is sent yet.
    pub(crate) fn new(address: Address) -> Result<Self, Failure> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", address.key.expose()))
            .map_err(|_| Failure::Usage("the key holds characters that no key has".to_owned()))?;
        authorization.set_sensitive(true);
        let plain = address.base.scheme() == "http";
        let http = client(&address).build().or_else(|error| match plain {
            // A small container may have no certificates, and without TLS there is no need for any.
            true => client(&address).tls_certs_only([]).build(),
            false => Err(error),
        });
        let http = http.map_err(|error| {
            Failure::Failed(format!("cannot prepare connections: {}", root_cause(&error)))
        })?;
        Ok(Self { http, address, authorization })
    }

    /// A route under `/api/v1`.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.address.base.clone();
        // http and https URLs always have a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(segments);
        }
        url
    }

    /// A path that the API gave, as an address for a browser or player.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let joined = match Url::parse(path) {
            Ok(url) => Ok(url),
            Err(_) => self.address.base.join(path.trim_start_matches('/')),
        };
        joined.map_or_else(|_| path.to_owned(), String::from)
    }

    /// A request that has the usual time to be answered.
    pub(crate) fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.request_without_end(method, url).timeout(ANSWER)
    }

    /// A request whose end nobody can tell.
    pub(crate) fn request_without_end(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url).header(header::AUTHORIZATION, self.authorization.clone())
    }

    /// Sends once. Every status but success and "not modified" is a failure.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.transport(&error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        if status.is_redirection() {
            let to = response
                .headers()
                .get(header::LOCATION)
                .and_then(|to| to.to_str().ok())
                .unwrap_or("elsewhere");
            return Err(Failure::Unreachable(format!(
                "{} sends us to {to}; give that address",
                self.address.base
            )));
        }
        Err(refusal(response).await)
    }

    /// Sends, and again where a moment later it may go better. What is sent must be harmless to repeat.
    pub(crate) async fn ask(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let mut request = request;
        for wait in REPEATS {
            // Only a streamed body cannot be sent again, and those do not come here.
            let Some(again) = request.try_clone() else { break };
            match self.send(request).await {
                Err(failure) if passes(&failure) => sleep(wait).await,
                answer => return answer,
            }
            request = again;
        }
        self.send(request).await
    }

    /// Reads a document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<Document<T>, Failure> {
        let response = self.ask(self.request(Method::GET, self.url(segments))).await?;
        self.document(response).await
    }

    /// Posts a document. The key makes sending it again harmless.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &Value,
        idempotency_key: &str,
    ) -> Result<Document<T>, Failure> {
        let key = HeaderValue::from_str(idempotency_key)
            .map_err(|_| Failure::Usage("the idempotency key must be visible ASCII characters".to_owned()))?;
        let request =
            self.request(Method::POST, self.url(segments)).header("idempotency-key", key).json(body);
        let response = self.ask(request).await?;
        self.document(response).await
    }

    /// Reads an answer.
    pub(crate) async fn document<T: DeserializeOwned>(
        &self,
        response: Response,
    ) -> Result<Document<T>, Failure> {
        let text = response.text().await.map_err(|error| self.transport(&error))?;
        match serde_json::from_str(&text) {
            Ok(view) => Ok(Document { text, view }),
            Err(error) => Err(Failure::Failed(format!(
                "the answer of {} is not one a farm gives ({error}); is the address right?",
                self.address.base
            ))),
        }
    }

    /// What broke between us and the farm.
    pub(crate) fn transport(&self, error: &reqwest::Error) -> Failure {
        let base = &self.address.base;
        if error.is_timeout() && !error.is_connect() {
            return Failure::Unreachable(format!("the farm at {base} did not answer in time"));
        }
        let cause = root_cause(error);
        if !error.is_connect() {
            return Failure::Broken(format!("lost the connection to the farm at {base}: {cause}"));
        }
        let hint = if self.address.local { "; is `reelmill dev` running?" } else { "" };
        Failure::Unreachable(format!("cannot reach the farm at {base}: {cause}{hint}"))
    }
}

fn client(address: &Address) -> ClientBuilder {
    let builder = Client::builder()
        .user_agent(concat!("reelmill/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .tcp_keepalive(KEEP_ALIVE)
        // A farm never redirects its API; a POST that a proxy turns into a GET only confuses.
        .redirect(redirect::Policy::none());
    // What the environment says of proxies is not meant for this machine.
    if address.is_loopback() { builder.no_proxy() } else { builder }
}

/// Worth another try: what a busy or restarting farm says, and connections that broke. A farm that does not listen at all is
/// better reported at once.
fn passes(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(refusal) => {
            matches!(refusal.status, 429 | 502..=504)
                || refusal.problem.r#type.ends_with("/idempotency-in-flight")
        }
        Failure::Broken(_) => true,
        _ => false,
    }
}

async fn refusal(response: Response) -> Failure {
    let status = response.status().as_u16();
    let kind =
        response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/problem+json") {
        return Refusal::foreign(status).into();
    }
    let problem = response.json::<Problem>().await.unwrap_or_default();
    Refusal { status, problem }.into()
}

/// The innermost error: the outer ones repeat the address and say "error sending request".
fn root_cause(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
