//! Who sends a request, and whether he may.
//!
//! A token that only sends is bound to the shops that it may send for. Tokens are kept as digests
//! only. Every token is compared, in constant time, so that neither the time nor the answer tells
//! how close a guess was. Repeated guesses are logged, and answered late; a right token is let in at
//! once, whatever else comes from its address.

mod binding;
mod guesses;
mod token;

use std::str::FromStr;
use std::sync::Arc;

use amends_workflows::order::ShopName;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};

use crate::app::App;
use crate::listen::Peer;
use crate::metrics::BadCredential;
use crate::problem::{Code, Problem};

pub use binding::{Binding, InvalidBinding};
pub(crate) use guesses::Guesses;
pub use token::{TOKEN_CHARACTERS_MIN, Token};

/// What the holder of a token is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, commands, sends orders and signals.
    Operator,
    /// Sends orders and signals, and nothing else; may be bound to shops.
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
    /// Reading how the API is used.
    Describe,
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
            Permission::Describe => true,
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

/// Who sends orders and signals, and for which shops.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    name: Arc<str>,
    binding: Arc<Binding>,
}

impl Sender {
    /// The name of the token.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Refuses what is about another shop than those of the token.
    pub(crate) fn speaks_for(&self, shop: &ShopName, app: &App) -> Result<(), Problem> {
        if self.binding.allows(shop) { Ok(()) } else { Err(self.refuse(shop.as_str(), app)) }
    }

    /// Refuses what is about no shop, unless the token is bound to none.
    pub(crate) fn speaks_for_every_shop(&self, app: &App) -> Result<(), Problem> {
        match &*self.binding {
            Binding::Every => Ok(()),
            Binding::Only(_) => Err(self.refuse("no shop", app)),
        }
    }

    fn refuse(&self, shop: &str, app: &App) -> Problem {
        let (token, allowed) = (&self.name, &self.binding);
        tracing::warn!(%token, shop, "refused what the token {token} may not send: {shop}");
        app.metrics().refused_for_its_shop(token);
        let detail = format!("the token {token} may send orders and signals of {allowed} only");
        Problem::new(Code::ShopNotAllowed, detail).with_allowed_shops(allowed.names())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Sender {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(Problem::internal)
    }
}

/// Why a request is not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has no token.
    NoToken,
    /// Nobody has its token.
    Unknown,
    /// The token of this name has expired.
    Expired(Arc<str>),
    /// The role of its token does not allow it.
    Forbidden(Role),
}

impl Refusal {
    fn bad_credential(&self) -> Option<BadCredential> {
        match self {
            Self::Unknown => Some(BadCredential::UnknownToken),
            Self::Expired(_) => Some(BadCredential::ExpiredToken),
            Self::NoToken | Self::Forbidden(_) => None,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refused: Refusal) -> Self {
        match refused {
            Refusal::NoToken => {
                Self::new(Code::Unauthenticated, "send a token: Authorization: Bearer <token>")
            }
            Refusal::Unknown => Self::new(Code::Unauthenticated, "the token is not known"),
            Refusal::Expired(name) => {
                let detail = format!("the token {name} has expired; ask for a new one");
                Self::new(Code::Unauthenticated, detail)
            }
            Refusal::Forbidden(role) => {
                let detail = format!("the role {} does not allow this", role.as_str());
                Self::new(Code::Forbidden, detail)
            }
        }
    }
}

/// Lets a request through if its token's role has the permission, and adds the [`Actor`] and the
/// [`Sender`].
///
/// It stands outside of the limits on requests: somebody who is answered late takes no place.
pub(crate) async fn require(
    State((app, permission)): State<(App, Permission)>,
    mut request: Request,
    next: Next,
) -> Response {
    match authorise(&app.tokens(), request.headers(), permission, app.now()) {
        Ok(sender) => {
            request.extensions_mut().insert(Actor(Arc::clone(&sender.name)));
            request.extensions_mut().insert(sender);
            next.run(request).await
        }
        Err(refused) => {
            if let Some(bad) = refused.bad_credential() {
                let peer = request.extensions().get().copied();
                refuse_credential(&app, peer, bad).await;
            }
            Problem::from(refused).into_response()
        }
    }
}

/// Counts and logs who is not believed, and returns late if it has become too much.
#[expect(clippy::disallowed_methods, reason = "a guess takes its time")]
pub(crate) async fn refuse_credential(app: &App, peer: Option<Peer>, bad: BadCredential) {
    app.metrics().refused_credential(bad);
    let address = peer.map(|Peer(address)| address);
    let pause = app.guesses().made(address, bad, tokio::time::Instant::now());
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

pub(crate) fn authorise(
    tokens: &[Token],
    headers: &HeaderMap,
    permission: Permission,
    now: DateTime<Utc>,
) -> Result<Sender, Refusal> {
    let presented = bearer(headers).ok_or(Refusal::NoToken)?;
    let token = Token::find(tokens, presented).ok_or(Refusal::Unknown)?;
    if token.expires_at().is_some_and(|expires_at| expires_at <= now) {
        return Err(Refusal::Expired(token.shared_name()));
    }
    if token.role().may(permission) {
        Ok(Sender { name: token.shared_name(), binding: token.shared_binding() })
    } else {
        Err(Refusal::Forbidden(token.role()))
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

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    fn tokens() -> Vec<Token> {
        Role::ALL
            .map(|role| Token::new(role.as_str(), role, &format!("{}-secret", role.as_str())))
            .into()
    }

    fn answer(authorization: &str, permission: Permission) -> Result<String, Code> {
        let value = HeaderValue::from_str(authorization).expect("a header value");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        authorise(&tokens(), &headers, permission, now())
            .map(|sender| sender.name().to_owned())
            .map_err(|refused| Problem::from(refused).code())
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
        assert_eq!(allowed(Permission::Describe), Role::ALL);
    }

    #[test]
    fn anything_but_a_known_bearer_token_is_not_authenticated() {
        for authorization in
            ["", "Bearer", "Bearer ", "admin-secret", "Basic admin-secret", "Bearer admin-secre"]
        {
            assert_eq!(answer(authorization, Permission::Read), Err(Code::Unauthenticated));
        }
        let nobody = authorise(&[], &HeaderMap::new(), Permission::Read, now());
        assert_eq!(nobody.err(), Some(Refusal::NoToken));
    }

    #[test]
    fn a_token_is_taken_on_its_last_day_and_not_after_it() {
        let last_day = "2026-12-31".parse().expect("a day");
        let tokens = [Token::new("anna", Role::Admin, "admin-secret").until(last_day)];
        let value = HeaderValue::from_static("Bearer admin-secret");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let at = |time: &str| {
            authorise(&tokens, &headers, Permission::Read, time.parse().expect("a time")).err()
        };
        assert_eq!(at("2026-12-31T23:59:59Z"), None);
        assert_eq!(at("2027-01-01T00:00:00Z"), Some(Refusal::Expired("anna".into())));
    }
}
