//! The header `Idempotency-Key`: names a request, so that sending it twice does it once.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::HeaderName;
use axum::http::request::Parts;

use crate::problem::{Code, Problem, required_header};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const KEY_LENGTH_MAX: usize = 255;

/// The key of a request, without quotes: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parse(required_header(&parts.headers, &IDEMPOTENCY_KEY)?)
    }
}

/// On routes where requests need not be named.
impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Problem> {
        if !parts.headers.contains_key(&IDEMPOTENCY_KEY) {
            return Ok(None);
        }
        parse(required_header(&parts.headers, &IDEMPOTENCY_KEY)?).map(Some)
    }
}

/// Reads `key` or `"key"`: the draft standard has it quoted, most clients send it plain.
pub(crate) fn parse(value: &str) -> Result<IdempotencyKey, Problem> {
    let trimmed = value.trim();
    let key = match trimmed.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').and_then(unescape),
        None => Some(trimmed.to_owned()),
    };
    let is_valid = |key: &String| {
        (1..=KEY_LENGTH_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    key.filter(is_valid).map(IdempotencyKey).ok_or_else(|| {
        let detail = format!(
            "the header {IDEMPOTENCY_KEY} has to be 1 to {KEY_LENGTH_MAX} visible ASCII \
             characters, plain or quoted"
        );
        Problem::new(Code::InvalidHeader, detail)
    })
}

/// The inside of a quoted string of RFC 9651, in which a backslash stands before `"` and `\` only.
fn unescape(quoted: &str) -> Option<String> {
    let mut key = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => key.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            _ => key.push(character),
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_quoted_keys_are_the_same_key() {
        for (value, key) in [
            ("8e03978e-40d5", "8e03978e-40d5"),
            ("\"8e03978e-40d5\"", "8e03978e-40d5"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (r"a\b", r"a\b"),
        ] {
            assert_eq!(parse(value), Ok(IdempotencyKey(key.to_owned())));
        }
        assert!(parse(&"k".repeat(KEY_LENGTH_MAX)).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        let long = "k".repeat(KEY_LENGTH_MAX + 1);
        for value in ["", "\"\"", "\"", "\"a", "a b", "\"a b\"", r#""a\b""#, r#""a"b""#, &long] {
            let code = parse(value).expect_err(value).code();
            assert_eq!(code, Code::InvalidHeader, "{value}");
        }
    }
}
