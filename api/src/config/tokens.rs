//! Reads tokens, as `name:role:token`, each with what is wrong with it.

use chrono::NaiveDate;

use super::Problems;
use super::reader::{Reader, entries};
use super::secret_setting::SecretSetting;
use crate::auth::{Binding, Role, TOKEN_CHARACTERS_MIN, Token};

/// Reads the tokens of a file that is read again. There has to be one: a file that holds nothing is
/// being written, or was truncated.
pub(crate) fn read_tokens(setting: &str, text: &str) -> Result<Vec<Token>, Problems> {
    let mut reader = Reader::default();
    let tokens = reader.tokens_of(setting, text);
    if tokens.is_empty() && reader.problems.is_empty() {
        reader.problem(format!("{setting}: there is no token"));
    }
    if reader.problems.is_empty() { Ok(tokens) } else { Err(Problems(reader.problems)) }
}

impl Reader {
    pub(super) fn tokens(&mut self, given: &SecretSetting) -> Vec<Token> {
        self.tokens_of(&given.setting(), &given.text)
    }

    fn tokens_of(&mut self, setting: &str, text: &str) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        for (place, entry) in entries(text) {
            let at = format!("{setting}, entry {place}");
            let Some(token) = self.token(&at, entry) else { continue };
            if tokens.iter().any(|other| other.name() == token.name()) {
                self.problem(format!("{at}: the name {} is there twice", token.name()));
            }
            if let Some(other) = tokens.iter().find(|other| other.has_secret_of(&token)) {
                // Whose it is would decide what it may do.
                self.problem(format!("{at}: the token is the one of {}", other.name()));
            }
            tokens.push(token);
        }
        tokens
    }

    /// A token, unless so much is wrong with it that nothing can be compared with it.
    fn token(&mut self, at: &str, entry: &str) -> Option<Token> {
        let mut parts = entry.splitn(3, ':').map(str::trim);
        let (Some(name), Some(role), Some(secret)) = (parts.next(), parts.next(), parts.next())
        else {
            self.problem(format!("{at}: has to be name:role:token"));
            return None;
        };
        let (name, last_day) = self.name(at, name);
        let role = match role.parse::<Role>() {
            Ok(role) => role,
            Err(error) => {
                self.problem(format!("{at}: {error}"));
                return None;
            }
        };
        let (secret, binding) = self.binding(at, role, secret);
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.problem(format!("{at}: a token is visible ASCII"));
        } else if secret.len() < TOKEN_CHARACTERS_MIN {
            self.problem(format!(
                "{at}: the token has {} characters, and needs {TOKEN_CHARACTERS_MIN} or more that \
                 nobody can guess, as `openssl rand -hex 32` makes them",
                secret.len()
            ));
        }
        let token = Token::new(name, role, secret).bound_to(binding);
        Some(match last_day {
            Some(last_day) => token.until(last_day),
            None => token,
        })
    }

    /// The name, and the last day on which the token is taken, if it is named behind `@`.
    fn name<'a>(&mut self, at: &str, text: &'a str) -> (&'a str, Option<NaiveDate>) {
        let (name, day) = match text.split_once('@') {
            Some((name, day)) => (name, Some(day)),
            None => (text, None),
        };
        if name.is_empty() || !name.bytes().all(is_name) {
            self.problem(format!("{at}: a name has letters, digits, '-', '_' and '.' only"));
        }
        let day = day.and_then(|day| {
            let last_day = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok();
            if last_day.is_none() {
                self.problem(format!(
                    "{at}: behind the @ stands the last day of the token, such as 2027-03-31"
                ));
            }
            last_day
        });
        (name, day)
    }

    /// The token itself, and the shops that it is bound to. Only what does nothing but send is
    /// bound, and it always is: a token of one shop must not speak for another by an oversight.
    fn binding<'a>(&mut self, at: &str, role: Role, rest: &'a str) -> (&'a str, Binding) {
        if role != Role::Ingest {
            return (rest, Binding::Every);
        }
        let Some((secret, shops)) = rest.rsplit_once(':') else {
            self.problem(format!(
                "{at}: an ingest token has to name the shops it may send for; put them behind it, \
                 as :acme.myshopify.com|other.example, or :* for every shop"
            ));
            return (rest, Binding::Every);
        };
        match shops.parse() {
            Ok(binding) => (secret, binding),
            Err(error) => {
                self.problem(format!("{at}: what stands behind the token is no shops: {error}"));
                (secret, Binding::Every)
            }
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}
