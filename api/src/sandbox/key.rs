//! Idempotency keys: how they are read, and that one key is worked on by one call at a time.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::operation::Provider;
use super::problem::Problem;

const HEADER: &str = "idempotency-key";
const KEY_BYTES_MAX: usize = 255;

/// An idempotency key: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Key(String);

impl Key {
    /// Reads the one `Idempotency-Key` header, plain (Stripe) or quoted (the IETF draft); both
    /// spellings of a key are the same key.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Key, Problem> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else {
            let detail = "the header Idempotency-Key is required";
            return Err(Problem::invalid("idempotency_key_missing", detail));
        };
        if values.next().is_some() {
            return Err(invalid("the header Idempotency-Key is given twice"));
        }
        let text = value.to_str().map_err(|_| invalid("the key is not visible ASCII"))?;
        let key = match text.strip_prefix('"') {
            Some(rest) => unquote(rest).ok_or_else(|| invalid("the quoted key is malformed"))?,
            None => text.to_owned(),
        };
        Key::try_from(key).map_err(invalid)
    }

    /// The same key for another time that something is done under it.
    pub(super) fn numbered(&self, times: u64) -> Key {
        // Every number fits behind what is kept.
        let kept = self.0.len().min(KEY_BYTES_MAX - "#18446744073709551615".len());
        Key(format!("{}#{times}", &self.0[..kept]))
    }

    /// The key as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Key, Self::Error> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err("a key has 1 to 255 characters");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a key is visible ASCII only");
        }
        Ok(Key(text))
    }
}

/// The content of a structured-field string (RFC 9651) whose opening quote was taken off.
fn unquote(rest: &str) -> Option<String> {
    let mut content = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(content),
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\') => content.push(escaped),
                _ => return None,
            },
            other => content.push(other),
        }
    }
}

fn invalid(detail: &'static str) -> Problem {
    Problem::invalid("idempotency_key_invalid", detail)
}

/// The keys being worked on; a second call with the same key waits for the first.
#[derive(Default)]
pub(super) struct Claims {
    held: Mutex<HashSet<(Provider, Key)>>,
    freed: Notify,
}

impl Claims {
    /// Waits until nobody works on the key, and takes it until the claim is dropped.
    pub(super) async fn claim(&self, provider: Provider, key: &Key) -> Claim<'_> {
        let name = (provider, key.clone());
        loop {
            // Made before the look at the set, so that a release in between is not missed.
            let freed = self.freed.notified();
            if self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
                return Claim { claims: self, name };
            }
            freed.await;
        }
    }
}

/// The right to work on a key; given back on drop.
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    name: (Provider, Key),
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.claims.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        self.claims.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, value.parse().unwrap());
        Key::from_headers(&headers).map(|key| key.0).map_err(|problem| problem.code)
    }

    #[test]
    fn a_quoted_key_and_a_plain_key_are_the_same_key() {
        assert_eq!(read("order-1/charge"), Ok("order-1/charge".to_owned()));
        assert_eq!(read("\"order-1/charge\""), Ok("order-1/charge".to_owned()));
        assert_eq!(read(r#""a\"b\\c""#), Ok(r#"a"b\c"#.to_owned()));
    }

    #[test]
    fn a_key_that_is_empty_long_spaced_or_half_quoted_is_refused() {
        let long = "k".repeat(256);
        for bad in ["", "\"\"", "a b", "\"open", "\"a\"b", r#""a\b""#, &long] {
            assert_eq!(read(bad), Err("idempotency_key_invalid"), "{bad}");
        }
        assert!(read(&"k".repeat(255)).is_ok());
    }

    #[test]
    fn a_missing_key_and_two_keys_are_refused() {
        let mut headers = HeaderMap::new();
        let missing = Key::from_headers(&headers).unwrap_err();
        assert_eq!(missing.code, "idempotency_key_missing");
        headers.append(HEADER, "a".parse().unwrap());
        headers.append(HEADER, "b".parse().unwrap());
        let twice = Key::from_headers(&headers).unwrap_err();
        assert_eq!(twice.code, "idempotency_key_invalid");
    }
}
