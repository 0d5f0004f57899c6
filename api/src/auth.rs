//! Who sends a request, and whether he may.
//!
//! A token that only sends is bound to the shops that it may send for. Tokens are kept as digests
//! only. Every token is compared, in constant time, so that neither
//! the time nor the answer tells how close a guess was.

mod binding;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use amends_workflows::order::ShopName;
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

pub use binding::{Binding, InvalidBinding};

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
    binding: Arc<Binding>,
}

impl Token {
    /// The token `secret`, whose holder is recorded as `name`, and who may send for every shop if
    /// the role sends at all.
    #[must_use]
    pub fn new(name: &str, role: Role, secret: &str) -> Self {
        let binding = Arc::new(Binding::Every);
        Self { name: name.into(), role, digest: Sha256::digest(secret).into(), binding }
    }

    /// The same token, whose holder may send for these shops only.
    #[must_use]
    pub fn bound_to(self, binding: Binding) -> Self {
        Self { binding: Arc::new(binding), ..self }
    }

    /// What its holder is here for.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The shops that its holder may send for.
    #[must_use]
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Whether both are the same secret.
    pub(crate) fn has_secret_of(&self, other: &Self) -> bool {
        self.digest.ct_eq(&other.digest).into()
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

/// Lets a request through if its token's role has the permission, and adds the [`Actor`] and the
/// [`Sender`].
pub(crate) async fn require(
    State((app, permission)): State<(App, Permission)>,
    mut request: Request,
    next: Next,
) -> Response {
    match authorise(app.tokens(), request.headers(), permission) {
        Ok(sender) => {
            request.extensions_mut().insert(Actor(Arc::clone(&sender.name)));
            request.extensions_mut().insert(sender);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

pub(crate) fn authorise(
    tokens: &[Token],
    headers: &HeaderMap,
    permission: Permission,
) -> Result<Sender, Problem> {
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
        Ok(Sender { name: Arc::clone(&token.name), binding: Arc::clone(&token.binding) })
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
            .map(|sender| sender.name().to_owned())
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
        assert_eq!(nobody.map_err(|problem| problem.code()).err(), Some(Code::Unauthenticated));
    }

    #[test]
    fn a_token_is_not_shown() {
        let shown = format!("{:?}", Token::new("anna", Role::Operator, "hunter2"));
        assert_eq!(shown, "anna:operator:[redacted]");
    }
}
