//! Takes in the body of a request: at most so large, within so much time, not compressed.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{Code, Problem};

/// The largest body that is accepted.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024;
/// The largest body of a webhook: an order of hundreds of lines has this.
const SIGNED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What the bodies of webhooks may take at once before it is known who sends them, in KiB.
const UNSIGNED_KIB_MAX: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How much more of a body that is too large is read and thrown away, and for how long.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A body that is declared to be JSON, to the byte. Whether it is JSON is for its reader to see.
#[derive(Debug, Clone)]
pub(crate) struct JsonBytes(pub(crate) Bytes);

/// The body of a webhook, to the byte, whatever it is declared to be: its signature decides. All of
/// them share a room, so that strangers cannot fill the memory.
#[derive(Debug)]
pub(crate) struct SignedBytes {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

static ROOM: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(UNSIGNED_KIB_MAX)));

impl<S: Send + Sync> FromRequest<S> for SignedBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if declared_length(&parts.headers).is_some_and(|bytes| bytes > SIGNED_BYTES_MAX as u64) {
            drain(body);
            return Err(too_large(SIGNED_BYTES_MAX));
        }
        let mut room: Option<OwnedSemaphorePermit> = None;
        // Room is taken for what has arrived, never for what is announced.
        let bytes = read(body, SIGNED_BYTES_MAX, |bytes| {
            let has = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let lacks = bytes.div_ceil(1024).saturating_sub(has) as u32;
            let more = Arc::clone(&ROOM).try_acquire_many_owned(lacks).map_err(|_| no_room())?;
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            Ok(())
        });
        Ok(Self { bytes: bytes.await?, _room: room })
    }
}

fn no_room() -> Problem {
    Problem::new(Code::Overloaded, "too much is arriving at once; send it again")
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl<S: Send + Sync> FromRequest<S> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        match declared_acceptable(&parts.headers) {
            Ok(()) => read(body, BODY_BYTES_MAX, |_| Ok(())).await.map(Self),
            Err(problem) => {
                if !parts.headers.contains_key(EXPECT) {
                    drain(body);
                }
                Err(problem)
            }
        }
    }
}

/// Refuses by the headers alone what need not be read.
fn declared_acceptable(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail: &str| Err(Problem::new(Code::UnsupportedMediaType, detail));
    for encoding in headers.get_all(CONTENT_ENCODING) {
        if !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity") {
            return unsupported("a compressed body is not accepted; send it without encoding");
        }
    }
    if !is_json(headers) {
        return unsupported("the body has to be JSON, declared as application/json");
    }
    if declared_length(headers).is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
        return Err(too_large(BODY_BYTES_MAX));
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(declared) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// `make_room` is told how much has arrived, before it is kept.
async fn read(
    body: Body,
    bytes_max: usize,
    mut make_room: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let arriving = async {
        let mut read = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| {
                Problem::new(Code::RequestTimeout, "the body broke off before its end")
            })?;
            if read.len() + chunk.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            make_room(read.len() + chunk.len())?;
            read.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(read))
    };
    let result = tokio::time::timeout(BODY_TIMEOUT, arriving).await.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
        Err(Problem::new(Code::RequestTimeout, detail))
    });
    if result.as_ref().is_err_and(|problem| problem.code() == Code::BodyTooLarge) {
        drain(Body::from_stream(chunks));
    }
    result
}

fn too_large(bytes_max: usize) -> Problem {
    let detail = format!("the body may have {} KiB at most", bytes_max / 1024);
    Problem::new(Code::BodyTooLarge, detail)
}

/// Reads on for a while in the background. A connection that is closed with unread data is reset,
/// and then the client may never see the answer.
fn drain(body: Body) {
    tokio::spawn(async move {
        let mut drained_bytes = 0;
        let mut chunks = body.into_data_stream();
        let draining = async {
            while let Some(Ok(chunk)) = chunks.next().await {
                drained_bytes += chunk.len();
                if drained_bytes > DRAIN_BYTES_MAX {
                    break;
                }
            }
        };
        // Too slow or done: in either case nobody waits for it.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, draining).await;
    });
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(axum::http::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn refusal(pairs: &[(axum::http::HeaderName, &'static str)]) -> Option<Code> {
        declared_acceptable(&headers(pairs)).err().map(|problem| problem.code())
    }

    #[test]
    fn only_json_without_encoding_is_accepted() {
        let json = (CONTENT_TYPE, "application/json; charset=utf-8");
        assert_eq!(refusal(std::slice::from_ref(&json)), None);
        assert_eq!(refusal(&[(CONTENT_TYPE, "Application/Vnd.Shop+JSON")]), None);
        assert_eq!(refusal(&[json.clone(), (CONTENT_ENCODING, "identity")]), None);
        assert_eq!(refusal(&[]), Some(Code::UnsupportedMediaType));
        assert_eq!(refusal(&[(CONTENT_TYPE, "text/plain")]), Some(Code::UnsupportedMediaType));
        assert_eq!(refusal(&[json, (CONTENT_ENCODING, "gzip")]), Some(Code::UnsupportedMediaType));
    }

    #[test]
    fn a_declared_length_that_is_too_large_is_refused_unread() {
        let json = (CONTENT_TYPE, "application/json");
        assert_eq!(refusal(&[json.clone(), (CONTENT_LENGTH, "262144")]), None);
        assert_eq!(refusal(&[json, (CONTENT_LENGTH, "262145")]), Some(Code::BodyTooLarge));
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_cut_off_at_the_limit() {
        let body = |chunks: usize| {
            let chunk = || Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 * 1024]));
            Body::from_stream(futures::stream::iter((0..chunks).map(move |_| chunk())))
        };
        let read = async |chunks| read(body(chunks), BODY_BYTES_MAX, |_| Ok(())).await;
        assert_eq!(read(4).await.map(|bytes| bytes.len()), Ok(BODY_BYTES_MAX));
        assert_eq!(read(5).await.map_err(|problem| problem.code()), Err(Code::BodyTooLarge));
    }
}
