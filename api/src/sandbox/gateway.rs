//! What common gateways answer in the place of a provider that stands behind them.
//!
//! Status, headers and body as they are sent, by name, in `gateways.json`. Nothing in such an answer
//! tells whether the provider has applied the request.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

static GATEWAYS: LazyLock<Vec<Gateway>> =
    LazyLock::new(|| serde_json::from_str(include_str!("gateways.json")).unwrap_or_default());

/// What one gateway answers in one case.
#[derive(Debug, Deserialize)]
struct Gateway {
    name: String,
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// The name of a gateway's answer, such as `nginx_404`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Name(String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if names().any(|known| known == name) {
            return Ok(Self(name));
        }
        Err(format!("no gateway answers {name:?}"))
    }
}

impl Name {
    /// The answer of a gateway that has waited for too long.
    pub(super) fn timed_out() -> Self {
        Self("nginx_504".to_owned())
    }

    /// One of the answers, by a number that is as good as random.
    pub(super) fn drawn(number: u64) -> Self {
        let index =
            number.checked_rem(GATEWAYS.len() as u64).and_then(|it| usize::try_from(it).ok());
        let drawn = index.and_then(|index| GATEWAYS.get(index));
        drawn.map_or_else(Self::timed_out, |gateway| Self(gateway.name.clone()))
    }

    /// The answer.
    pub(super) fn answer(&self) -> Response {
        let Some(gateway) = GATEWAYS.iter().find(|gateway| gateway.name == self.0) else {
            return StatusCode::GATEWAY_TIMEOUT.into_response();
        };
        let status = StatusCode::from_u16(gateway.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut response = Response::new(gateway.body.clone().into());
        *response.status_mut() = status;
        for (name, value) in &gateway.headers {
            let (name, value) = (name.parse::<HeaderName>(), HeaderValue::from_str(value));
            if let (Ok(name), Ok(value)) = (name, value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// The names of all answers.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    GATEWAYS.iter().map(|gateway| gateway.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_can_be_sent_as_it_is_written_down() {
        assert!(names().count() > 90);
        for gateway in GATEWAYS.iter() {
            let name = Name::try_from(gateway.name.clone()).unwrap();
            let response = name.answer();
            assert_eq!(response.status().as_u16(), gateway.status, "{}", gateway.name);
            assert_eq!(response.headers().len(), gateway.headers.len(), "{}", gateway.name);
        }
        assert!(Name::try_from(Name::timed_out().0).is_ok());
        assert!(Name::try_from("nginx_999".to_owned()).is_err());
    }
}
