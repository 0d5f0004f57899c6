//! The shape that all providers share: read a call, decide it once, answer it as often as asked.
//!
//! A provider file says what a request looks like and how its answer is written; idempotency,
//! undo, faults and the ledger are here. A call runs to its end even if the caller hangs up:
//! an effect that comes after the caller's time-out is what a slow provider does.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Sandbox;
use super::book::{Call, Change, Part, Standing, Work};
use super::fault::{Aim, Codes, Ending, Refusal, Stage, perform};
use super::key::Key;
use super::operation::Operation;
use super::problem::Problem;
use super::record::{Answer, Effect, Subject};

/// A request for an effect.
pub(super) trait Forward: DeserializeOwned + 'static {
    /// What is asked for.
    const OPERATION: Operation;
    /// How references begin.
    const PREFIX: &'static str;
    /// The codes of a definite no.
    const CODES: Codes = Codes::PLAIN;

    /// What the effect is about.
    fn subject(self) -> Subject;
    /// The body of the answer.
    fn answer(effect: &Effect) -> Value;
}

/// A request to undo an effect, named by the key it was asked for with.
pub(super) trait Undo: DeserializeOwned + 'static {
    /// What is asked for.
    const OPERATION: Operation;
    /// How references begin.
    const PREFIX: &'static str;
    /// What is undone.
    type Forward: Forward;

    /// What is to be undone.
    fn undoing(self) -> Undoing;
    /// The body of the answer; without an effect when there was nothing to undo.
    fn answer(effect: Option<&Effect>) -> Value;
}

/// What is to be undone.
pub(super) struct Undoing {
    /// The key of the forward call.
    pub(super) forward_key: Key,
    /// How much of its money, if not all that is left.
    pub(super) part: Option<Part>,
}

impl From<Key> for Undoing {
    fn from(forward_key: Key) -> Self {
        Self { forward_key, part: None }
    }
}

/// A line of an order: so many of one thing.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be checked; the ledger keeps no goods")]
pub(super) struct Line {
    sku: String,
    quantity: u64,
}

/// The routes of a forward call: make it, and look it up by key.
pub(super) fn forward<F: Forward>(path: &str) -> Router<Sandbox> {
    Router::new().route(path, post(take_forward::<F>).get(look_up::<F>))
}

/// The route of an undo.
pub(super) fn undo<U: Undo>(path: &str) -> Router<Sandbox> {
    Router::new().route(path, post(take_undo::<U>))
}

/// Reads a body as JSON, whatever its content type claims.
pub(super) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::invalid("body_invalid", error.to_string()))
}

async fn take_forward<F: Forward>(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let key = Key::from_headers(&headers)?;
    let body = body?;
    let subject = read_json::<F>(&body)?.subject();
    let call = Call {
        operation: F::OPERATION,
        key,
        digest: digest(&body),
        prefix: F::PREFIX,
        work: Work::Forward { subject, answer: F::answer },
        refusal: None,
        remembers: true,
    };
    Ok(run(sandbox, call, F::CODES).await)
}

async fn take_undo<U: Undo>(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let key = Key::from_headers(&headers)?;
    let body = body?;
    let Undoing { forward_key, part } = read_json::<U>(&body)?.undoing();
    let forward = <U::Forward as Forward>::OPERATION;
    let call = Call {
        operation: U::OPERATION,
        key,
        digest: digest(&body),
        prefix: U::PREFIX,
        work: Work::Undo { forward, forward_key, part, answer: U::answer },
        refusal: None,
        remembers: true,
    };
    Ok(run(sandbox, call, Codes::PLAIN).await)
}

#[derive(Deserialize)]
struct ByKey {
    key: String,
}

async fn look_up<F: Forward>(
    State(sandbox): State<Sandbox>,
    query: Result<Query<ByKey>, QueryRejection>,
) -> Result<Answer, Problem> {
    let Query(ByKey { key }) = query?;
    let key = Key::try_from(key).map_err(|detail| Problem::invalid("query_invalid", detail))?;
    let book = sandbox.ledger().read().await?;
    book.applied(F::OPERATION, &key).map(|decision| decision.found()).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "nothing was done under this key")
    })
}

async fn run(sandbox: Sandbox, call: Call, codes: Codes) -> Response {
    finish(async move {
        sandbox.take(call, codes).await.unwrap_or_else(|no| Ending::Answer(no.into_response()))
    })
    .await
}

/// Runs a call to its end even if the caller hangs up; only the wait for the answer is dropped.
pub(super) async fn finish(call: impl Future<Output = Ending> + Send + 'static) -> Response {
    match tokio::spawn(call).await {
        Ok(ending) => ending.leave().await,
        Err(error) => {
            tracing::error!(%error, "a sandbox call did not run to its end: {error}");
            Problem::internal().into_response()
        }
    }
}

impl Sandbox {
    async fn take(&self, mut call: Call, codes: Codes) -> Result<Ending, Problem> {
        let provider = call.operation.provider();
        let _claim = self.claims().claim(provider, &call.key).await;
        let strike = {
            let book = self.ledger().read().await?;
            if !self.faults().honours_keys(provider) {
                call.key = book.fresh(provider, &call.key);
            }
            let stage = match book.standing(&call) {
                Standing::Open => Stage::Open,
                Standing::Settled(_) | Standing::Reused | Standing::Undone => Stage::Settled,
            };
            self.faults().choose(&Aim {
                operation: call.operation,
                key: Some(&call.key),
                order_ids: [book.order_id(&call), None],
                stage,
            })
        };
        let sandbox = self.clone();
        let apply = move |refusal: Option<Refusal>| {
            let refusal = refusal.map(|refusal| codes.problem(refusal));
            let remembers = sandbox.faults().remembers(provider);
            let call = Call { refusal, remembers, ..call };
            async move { sandbox.ledger().submit(Change::Call(Box::new(call))).await.into_response() }
        };
        Ok(perform(strike, self.late(), apply).await)
    }
}

/// SHA-256 of the bytes, in hex.
pub(super) fn digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}
