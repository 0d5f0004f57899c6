//! A token: its holder, what it is for, and until when.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Binding, Role};

/// How long the secret of a token is at least. It is its length that keeps it from being guessed, and
/// not how fast guesses are answered.
pub const TOKEN_CHARACTERS_MIN: usize = 32;

/// A bearer token that is accepted.
#[derive(Clone)]
pub struct Token {
    name: Arc<str>,
    role: Role,
    digest: [u8; 32],
    binding: Arc<Binding>,
    expires_at: Option<DateTime<Utc>>,
}

impl Token {
    /// The token `secret`, whose holder is recorded as `name`, and who may send for every shop if
    /// the role sends at all. It does not expire. How long it is, is not looked at here.
    #[must_use]
    pub fn new(name: &str, role: Role, secret: &str) -> Self {
        let (binding, digest) = (Arc::new(Binding::Every), Sha256::digest(secret).into());
        Self { name: name.into(), role, digest, binding, expires_at: None }
    }

    /// The same token, whose holder may send for these shops only.
    #[must_use]
    pub fn bound_to(self, binding: Binding) -> Self {
        Self { binding: Arc::new(binding), ..self }
    }

    /// The same token, which is accepted until the end of this day in UTC.
    #[must_use]
    pub fn until(self, last_day: NaiveDate) -> Self {
        let next_day = last_day.checked_add_days(Days::new(1)).unwrap_or(last_day);
        Self { expires_at: Some(next_day.and_time(NaiveTime::MIN).and_utc()), ..self }
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

    /// Who holds it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From when on it is not accepted any more, if ever.
    #[must_use]
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.expires_at
    }

    /// Whether both are the same secret.
    pub(crate) fn has_secret_of(&self, other: &Self) -> bool {
        self.digest.ct_eq(&other.digest).into()
    }

    /// Which of them this is. All are looked at.
    pub(super) fn find<'a>(tokens: &'a [Self], presented: &str) -> Option<&'a Self> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let mut found = None;
        for token in tokens {
            if bool::from(token.digest.ct_eq(&digest)) {
                found = Some(token);
            }
        }
        found
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) fn shared_binding(&self) -> Arc<Binding> {
        Arc::clone(&self.binding)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:[redacted]", self.name, self.role.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let shown = format!("{:?}", Token::new("anna", Role::Operator, "hunter2"));
        assert_eq!(shown, "anna:operator:[redacted]");
    }
}
