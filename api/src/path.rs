//! Reads the variable parts of a path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use uuid::Uuid;

use crate::problem::{Code, Problem};

/// The id of an instance, as the only variable part of the path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let detail = "the id in the path is not a UUID";
        match Path::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(_) => Err(Problem::new(Code::InvalidPath, detail)),
        }
    }
}

/// A text, as the only variable part of the path.
#[derive(Debug, Clone)]
pub(crate) struct Single(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Single {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) if storable(&text) => Ok(Self(text)),
            _ => Err(not_text()),
        }
    }
}

/// Two texts, as the variable parts of the path.
#[derive(Debug, Clone)]
pub(crate) struct Pair(pub(crate) String, pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Pair {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<(String, String)>::from_request_parts(parts, state).await {
            Ok(Path((first, second))) if storable(&first) && storable(&second) => {
                Ok(Self(first, second))
            }
            _ => Err(not_text()),
        }
    }
}

/// Postgres has no place for NUL in text; asking it for one is an error.
fn storable(text: &str) -> bool {
    !text.contains('\0')
}

fn not_text() -> Problem {
    Problem::new(Code::InvalidPath, "the path holds what is not text in UTF-8, or NUL")
}
