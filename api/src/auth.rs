//! Who sends a request, and whether he may.
//!
//! Tokens are kept as digests only. Every token is compared, in constant time, so that neither
//! the time nor the answer tells how close a guess was.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::problem::{Code, Problem};

/// What the holder of a token is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, commands, sends orders and signals.
    Operator,
    /// Sends orders and signals, and nothing else.
    Ingest,
    /// Reads.
    Auditor,
    /// Does everything.
    Admin,
}

/// What a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Seeing instances, their histories, and schedules.
    Read,
    /// Sending orders and signals.
    Send,
    /// Commanding instances and schedules.
    Command,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::Operator, Self::Ingest, Self::Auditor, Self::Admin];

    /// As written in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Ingest => "ingest",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
        }
    }

    fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::Read => match self {
                Self::Viewer | Self::Operator | Self::Auditor | Self::Admin => true,
                Self::Ingest => false,
            },
            Permission::Send => match self {
                Self::Ingest | Self::Operator | Self::Admin => true,
                Self::Viewer | Self::Auditor => false,
            },
            Permission::Command => match self {
                Self::Operator | Self::Admin => true,
                Self::Viewer | Self::Ingest | Self::Auditor => false,
            },
        }
    }
}

/// There is no such role.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown role; there are viewer, operator, ingest, auditor and admin")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// A bearer token that is accepted.
#[derive(Clone)]
pub struct Token {
    name: Arc<str>,
    role: Role,
    digest: [u8; 32],
}

impl Token {
    /// The token `secret`, whose holder is recorded as `name`.
    #[must_use]
    pub fn new(name: &str, role: Role, secret: &str) -> Self {
        Self { name: name.into(), role, digest: Sha256::digest(secret).into() }
    }

    /// Who holds it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:[redacted]", self.name, self.role.as_str())
    }
}

/// Who sent the request: the name of his token. What he does is recorded under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actor(pub(crate) Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        // Only a route that lacks `require` can get here without an actor: refuse.
        parts.extensions.get().cloned().ok_or_else(Problem::internal)
    }
}

/// Lets a request through if its token's role has the permission, and adds the [`Actor`].
pub(crate) async fn require(
    State((app, permission)): State<(App, Permission)>,
    mut request: Request,
    next: Next,
) -> Response {
    match authorise(app.tokens(), request.headers(), permission) {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

pub(crate) fn authorise(
    tokens: &[Token],
    headers: &HeaderMap,
    permission: Permission,
) -> Result<Actor, Problem> {
    let presented = bearer(headers).ok_or_else(|| {
        Problem::new(Code::Unauthenticated, "send a token: Authorization: Bearer <token>")
    })?;
    let digest: [u8; 32] = Sha256::digest(presented).into();
    let mut found = None;
    for token in tokens {
        if bool::from(token.digest.ct_eq(&digest)) {
            found = Some(token);
        }
    }
    let token =
        found.ok_or_else(|| Problem::new(Code::Unauthenticated, "the token is not known"))?;
    if token.role.may(permission) {
        Ok(Actor(token.name.clone()))
    } else {
        let detail = format!("the role {} does not allow this", token.role.as_str());
        Err(Problem::new(Code::Forbidden, detail))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token.trim_start())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn tokens() -> Vec<Token> {
        Role::ALL
            .map(|role| Token::new(role.as_str(), role, &format!("{}-secret", role.as_str())))
            .into()
    }

    fn answer(authorization: &str, permission: Permission) -> Result<String, Code> {
        let value = HeaderValue::from_str(authorization).expect("a header value");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        authorise(&tokens(), &headers, permission)
            .map(|actor| actor.0.to_string())
            .map_err(|problem| problem.code())
    }

    #[test]
    fn each_role_may_do_exactly_what_it_is_for() {
        let allowed = |permission| {
            let may = |role: &Role| {
                let authorization = format!("Bearer {}-secret", role.as_str());
                match answer(&authorization, permission) {
                    Ok(actor) => actor == role.as_str(),
                    Err(code) => {
                        assert_eq!(code, Code::Forbidden);
                        false
                    }
                }
            };
            Role::ALL.into_iter().filter(may).collect::<Vec<_>>()
        };
        assert_eq!(
            allowed(Permission::Read),
            [Role::Viewer, Role::Operator, Role::Auditor, Role::Admin]
        );
        assert_eq!(allowed(Permission::Send), [Role::Operator, Role::Ingest, Role::Admin]);
        assert_eq!(allowed(Permission::Command), [Role::Operator, Role::Admin]);
    }

    #[test]
    fn anything_but_a_known_bearer_token_is_not_authenticated() {
        for authorization in
            ["", "Bearer", "Bearer ", "admin-secret", "Basic admin-secret", "Bearer admin-secre"]
        {
            assert_eq!(answer(authorization, Permission::Read), Err(Code::Unauthenticated));
        }
        let nobody = authorise(&[], &HeaderMap::new(), Permission::Read);
        assert_eq!(nobody.map_err(|problem| problem.code()), Err(Code::Unauthenticated));
    }

    #[test]
    fn a_token_is_not_shown() {
        let shown = format!("{:?}", Token::new("anna", Role::Operator, "hunter2"));
        assert_eq!(shown, "anna:operator:[redacted]");
    }
}
