//! What a server is told from outside: flags, else the environment, else defaults.
//!
//! Everything that is wrong is reported at once, before anything is opened. Secrets are not shown.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use amends_workflows::order::ShopName;
use clap::Args;
use sqlx::postgres::PgConnectOptions;

use crate::app::HttpConfig;
use crate::auth::{Binding, Role, Token};
use crate::secret::Secret;
use crate::sink::http::http_url;
use crate::webhook::Shops;

/// Where a private database is kept, if nobody says otherwise.
pub const DATA_DIR_DEFAULT: &str = ".amends";
/// How many instances are in memory at once, if nobody says otherwise.
const INSTANCES_MAX_DEFAULT: usize = 10_000;
/// How long a server that is silent keeps what it holds, if nobody says otherwise.
const LEASE_SECONDS_DEFAULT: u64 = 30;
/// A shorter lease is lost to a slow moment of the database; a longer one leaves orders lying.
const LEASE_SECONDS: RangeInclusive<u64> = 3..=3600;

/// The flags of `amends serve`, as they are typed. [`Config::try_from`] checks them.
#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Address to listen on
    #[arg(long, env = "AMENDS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// The database
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// Where the providers are (stock, invoices, payments, carrier, mail)
    #[arg(
        long,
        env = "AMENDS_PROVIDERS_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8090"
    )]
    pub providers_url: String,
    /// Bearer tokens, as name:role:token,..; roles: viewer, operator, ingest, auditor, admin. An
    /// ingest token names its shops behind it: name:ingest:token:shop|shop, or :* for every shop
    #[arg(
        long,
        env = "AMENDS_TOKENS",
        value_name = "TOKENS",
        default_value = "",
        hide_env_values = true
    )]
    pub tokens: String,
    /// Shopify shops and their secrets, as shop=secret|secret,..
    #[arg(
        long,
        env = "AMENDS_SHOPIFY_SECRETS",
        value_name = "SECRETS",
        default_value = "",
        hide_env_values = true
    )]
    pub shopify_secrets: String,
    /// Where events are posted; without it they are logged
    #[arg(long, env = "AMENDS_EVENTS_URL", value_name = "URL", hide_env_values = true)]
    pub events_url: Option<String>,
    /// How many instances are in memory at once
    #[arg(long, env = "AMENDS_INSTANCES_MAX", value_name = "NUMBER")]
    pub instances_max: Option<String>,
    /// How long a server may be silent before others take over what it holds (default 30)
    #[arg(long, env = "AMENDS_LEASE_SECONDS", value_name = "SECONDS")]
    pub lease_seconds: Option<String>,
}

/// The flags that say which database, as they are typed. [`Database::try_from`] checks them.
#[derive(Args)]
#[group(skip)]
pub struct DatabaseArguments {
    /// Database; without it a private one is started in the data directory
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Directory of the private database
    #[arg(long, env = "AMENDS_DATA_DIR", value_name = "DIRECTORY", default_value = DATA_DIR_DEFAULT)]
    pub data_dir: PathBuf,
    /// Directory of the programs of Postgres, if they are not found by themselves
    #[arg(long, env = "AMENDS_PG_BIN", value_name = "DIRECTORY")]
    pub pg_bin: Option<PathBuf>,
}

/// What a server is told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where instances are kept.
    pub database: Database,
    /// Where the providers are.
    pub providers_url: String,
    /// Where events are posted; `None`: they are logged.
    pub events_url: Option<Secret>,
    /// How many instances are in memory at once.
    pub instances_max: usize,
    /// How long this server may be silent before others take over what it holds.
    pub lease: Duration,
    /// What the HTTP part has to know.
    pub http: HttpConfig,
}

/// Where instances are kept.
#[derive(Debug, Clone)]
pub enum Database {
    /// In a database that somebody else looks after.
    Url(Secret),
    /// In a private one, which this process starts and stops.
    Embedded {
        /// Its directory.
        data_dir: PathBuf,
        /// Where the programs of Postgres are; `None`: look for them.
        bin_dir: Option<PathBuf>,
    },
}

/// Everything that is wrong with the configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration cannot be used:")?;
        self.0.iter().try_for_each(|problem| write!(formatter, "\n- {problem}"))
    }
}

impl TryFrom<Arguments> for Config {
    type Error = Problems;

    fn try_from(arguments: Arguments) -> Result<Self, Problems> {
        let mut reader = Reader::default();
        let listen = reader.listen(&arguments.listen);
        let instances_max = reader.instances_max(arguments.instances_max.as_deref());
        let lease = reader.lease(arguments.lease_seconds.as_deref());
        reader.http_url("AMENDS_PROVIDERS_URL", &arguments.providers_url);
        let events_url = arguments.events_url.filter(|url| !url.is_empty());
        if let Some(url) = &events_url {
            reader.http_url("AMENDS_EVENTS_URL", url);
        }
        let database = reader.database(arguments.database);
        let tokens = reader.tokens(&arguments.tokens);
        let shopify = reader.shops(&arguments.shopify_secrets);
        match (listen, instances_max, lease) {
            (Some(listen), Some(instances_max), Some(lease)) if reader.problems.is_empty() => {
                Ok(Self {
                    listen,
                    database,
                    providers_url: arguments.providers_url,
                    events_url: events_url.map(Secret::new),
                    instances_max,
                    lease,
                    http: HttpConfig { tokens, shopify, ..HttpConfig::default() },
                })
            }
            _ => Err(Problems(reader.problems)),
        }
    }
}

impl TryFrom<DatabaseArguments> for Database {
    type Error = Problems;

    fn try_from(arguments: DatabaseArguments) -> Result<Self, Problems> {
        let mut reader = Reader::default();
        let database = reader.database(arguments);
        if reader.problems.is_empty() { Ok(database) } else { Err(Problems(reader.problems)) }
    }
}

/// Reads settings, and keeps what is wrong with them. No problem repeats a value that may be
/// secret.
#[derive(Default)]
struct Reader {
    problems: Vec<String>,
}

impl Reader {
    fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    fn listen(&mut self, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.problem(format!(
                "AMENDS_LISTEN: {text} is not an address with a port, such as 127.0.0.1:8080"
            ));
        }
        address
    }

    fn instances_max(&mut self, text: Option<&str>) -> Option<usize> {
        let number = match text {
            None | Some("") => Some(INSTANCES_MAX_DEFAULT),
            Some(text) => text.parse().ok().filter(|number| *number > 0),
        };
        if number.is_none() {
            self.problem("AMENDS_INSTANCES_MAX: has to be a number, 1 or more");
        }
        number
    }

    fn lease(&mut self, text: Option<&str>) -> Option<Duration> {
        let seconds = match text {
            None | Some("") => Some(LEASE_SECONDS_DEFAULT),
            Some(text) => text.parse().ok().filter(|seconds| LEASE_SECONDS.contains(seconds)),
        };
        if seconds.is_none() {
            let (min, max) = LEASE_SECONDS.into_inner();
            self.problem(format!("AMENDS_LEASE_SECONDS: has to be a number, {min} to {max}"));
        }
        seconds.map(Duration::from_secs)
    }

    fn http_url(&mut self, name: &str, url: &str) {
        if http_url(url).is_none() {
            self.problem(format!("{name}: has to be an address, such as http://127.0.0.1:8090"));
        }
    }

    fn database(&mut self, arguments: DatabaseArguments) -> Database {
        let DatabaseArguments { database_url, data_dir, pg_bin } = arguments;
        let Some(url) = database_url.filter(|url| !url.is_empty()) else {
            return Database::Embedded { data_dir, bin_dir: pg_bin };
        };
        let is_postgres = ["postgres://", "postgresql://"].iter().any(|it| url.starts_with(it));
        if !is_postgres || PgConnectOptions::from_str(&url).is_err() {
            self.problem("DATABASE_URL: has to be a URL, such as postgres://user@host/database");
        }
        Database::Url(Secret::new(url))
    }

    fn tokens(&mut self, text: &str) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        for (place, entry) in entries(text) {
            let at = format!("AMENDS_TOKENS, entry {place}");
            let mut parts = entry.splitn(3, ':').map(str::trim);
            let (Some(name), Some(role), Some(secret)) = (parts.next(), parts.next(), parts.next())
            else {
                self.problem(format!("{at}: has to be name:role:token"));
                continue;
            };
            if name.is_empty() || !name.bytes().all(is_name) {
                self.problem(format!("{at}: a name has letters, digits, '-', '_' and '.' only"));
            } else if tokens.iter().any(|token| token.name() == name) {
                self.problem(format!("{at}: the name {name} is there twice"));
            }
            let role = match role.parse::<Role>() {
                Ok(role) => role,
                Err(error) => {
                    self.problem(format!("{at}: {error}"));
                    continue;
                }
            };
            let (secret, binding) = self.binding(&at, role, secret);
            if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                self.problem(format!("{at}: a token is visible ASCII, and not empty"));
            }
            let token = Token::new(name, role, secret).bound_to(binding);
            if let Some(other) = tokens.iter().find(|other| other.has_secret_of(&token)) {
                // Whose it is would decide what it may do.
                self.problem(format!("{at}: the token is the one of {}", other.name()));
            }
            tokens.push(token);
        }
        tokens
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

    fn shops(&mut self, text: &str) -> Shops {
        let mut shops = Shops::default();
        for (place, entry) in entries(text) {
            let at = format!("AMENDS_SHOPIFY_SECRETS, entry {place}");
            let Some((shop, secrets)) = entry.split_once('=') else {
                self.problem(format!("{at}: has to be shop=secret"));
                continue;
            };
            let shop = shop.trim();
            if shop.parse::<ShopName>().is_err() {
                self.problem(format!("{at}: a shop is a domain, such as acme.myshopify.com"));
            } else if shops.contains(shop) {
                self.problem(format!("{at}: the shop {shop} is there twice"));
            }
            let secrets: Vec<_> = secrets.split('|').map(str::trim).collect();
            if secrets.iter().any(|secret| secret.is_empty()) {
                self.problem(format!("{at}: a secret is empty"));
            }
            shops.insert(shop, secrets.into_iter().map(Secret::new).collect());
        }
        shops
    }
}

/// The entries of a list, each with its place from 1. Empty ones are left out.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let entries = text.split(',').map(str::trim).enumerate();
    entries.filter(|(_, entry)| !entry.is_empty()).map(|(index, entry)| (index + 1, entry))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(url: Option<&str>) -> DatabaseArguments {
        DatabaseArguments {
            database_url: url.map(str::to_owned),
            data_dir: DATA_DIR_DEFAULT.into(),
            pg_bin: None,
        }
    }

    fn arguments() -> Arguments {
        Arguments {
            listen: "127.0.0.1:0".to_owned(),
            database: database(Some("postgres://amends:hunter2@db/amends")),
            providers_url: "http://127.0.0.1:8090".to_owned(),
            tokens: "anna:operator:s3cret:with,shop1:ingest:a:b:Acme.example|b.example,shop2:ingest:abc:*"
                .to_owned(),
            shopify_secrets: "Acme.myshopify.com=shpss_1|shpss_2".to_owned(),
            events_url: Some("https://events.example.com/hook?key=hunter3".to_owned()),
            instances_max: None,
            lease_seconds: None,
        }
    }

    #[test]
    fn a_good_configuration_is_read_and_shows_no_secret() {
        let config = Config::try_from(arguments()).expect("a configuration");
        assert_eq!(config.instances_max, INSTANCES_MAX_DEFAULT);
        assert_eq!(config.lease, amends::Settings::default().lease);
        let bound: Vec<_> =
            config.http.tokens.iter().map(|token| token.binding().to_string()).collect();
        assert_eq!(bound, ["every shop", "acme.example, b.example", "every shop"]);
        assert_eq!(config.http.shopify.secrets("acme.myshopify.com").len(), 2);
        let shown = format!("{config:?}");
        for secret in ["hunter2", "hunter3", "s3cret", "a:b", "abc", "shpss"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("anna"), "{shown}");
    }

    #[test]
    fn without_a_database_a_private_one_is_used() {
        for url in [None, Some("")] {
            let config = Config::try_from(Arguments { database: database(url), ..arguments() });
            let database = config.expect("a configuration").database;
            assert!(matches!(database, Database::Embedded { .. }), "{database:?}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_reported_at_once_and_no_secret_with_it() {
        let wrong = Arguments {
            listen: "8080".to_owned(),
            database: database(Some("mysql://root:hunter2@db")),
            providers_url: "localhost".to_owned(),
            events_url: Some("hunter3".to_owned()),
            instances_max: Some("0".to_owned()),
            lease_seconds: Some("2".to_owned()),
            tokens: "hunter4,anna:boss:hunter5,:viewer:,a:viewer:x,a:viewer:y,b:ingest:hunter8,\
                c:ingest:hunter9:hunter10,d:admin:hunter11,e:viewer:hunter11"
                .to_owned(),
            shopify_secrets: "hunter6,acme=,acme=hunter7".to_owned(),
        };
        let problems = Config::try_from(wrong).expect_err("problems");
        assert_eq!(problems.0.len(), 17, "{problems}");
        assert!(!problems.to_string().contains("hunter"), "{problems}");
    }

    #[test]
    fn an_ingest_token_that_names_no_shops_is_not_taken() {
        for tokens in
            ["shop:ingest:abc", "shop:ingest:abc:", "shop:ingest:abc:def", "shop:ingest::*"]
        {
            let wrong = Arguments { tokens: tokens.to_owned(), ..arguments() };
            let problems = Config::try_from(wrong).expect_err("problems");
            assert_eq!(problems.0.len(), 1, "{tokens}: {problems}");
            assert!(problems.0[0].starts_with("AMENDS_TOKENS, entry 1: "), "{problems}");
        }
    }
}
