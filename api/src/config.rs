//! What a server is told from outside: flags, else the environment, else defaults.
//!
//! Everything that is wrong is reported at once, before anything is opened. Secrets are not shown.
//! A secret comes from the environment, or from a file that a setting ending in `_FILE` names; who
//! gives one on the command line is refused (`api/src/cli/secrets.rs`).

mod reader;
mod secret_setting;
mod shops;
mod tokens;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use amends::{Durability, OnLostCommits};
use amends_workflows::fulfilment::Setup;
use clap::Args;

use crate::app::{ConnectionLimits, HttpConfig};
use crate::secret::Secret;
use reader::Reader;
pub use secret_setting::secret;
pub(crate) use secret_setting::{SHOPIFY_SECRETS, TOKENS, read_file};
pub(crate) use shops::read_shops;
pub(crate) use tokens::read_tokens;

/// Where a private database is kept, if nobody says otherwise.
pub const DATA_DIR_DEFAULT: &str = ".amends";
/// Where the providers are, if nobody says otherwise.
const PROVIDERS_URL_DEFAULT: &str = "http://127.0.0.1:8090";
/// How many instances are in memory at once, if nobody says otherwise.
const INSTANCES_MAX_DEFAULT: usize = 10_000;
/// How long a server that is silent keeps what it holds, if nobody says otherwise.
const LEASE_SECONDS_DEFAULT: u64 = 30;
/// How long a server that starts waits for its database, if nobody says otherwise.
const WAIT_DATABASE_SECONDS_DEFAULT: usize = 60;
/// When an order is late that nobody has packed, if nobody says otherwise: after half a working day.
const PACKING_LATE_SECONDS_DEFAULT: usize = 4 * 3600;
/// For how long pieces are kept for an order, if nobody says otherwise: for a week.
const STOCK_KEPT_SECONDS_DEFAULT: usize = 7 * 24 * 3600;
/// A shorter lease is lost to a slow moment of the database; a longer one leaves orders lying.
const LEASE_SECONDS: RangeInclusive<u64> = 3..=3600;

/// The flags of `amends serve`, as they are typed. [`Config::try_from`] checks them.
#[derive(Args)]
#[group(skip)]
pub struct Arguments {
    /// Address to listen on
    #[arg(long, env = "AMENDS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Address on which metrics, the description of the API and health are served without a token;
    /// keep it in a network of your own
    #[arg(long, env = "AMENDS_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
    /// How many connections are served at once (default 4096)
    #[arg(long, env = "AMENDS_CONNECTIONS_MAX", value_name = "NUMBER")]
    pub connections_max: Option<String>,
    /// How many of them may come from one address (default 1024); 0: as many as in all, as behind a
    /// reverse proxy
    #[arg(long, env = "AMENDS_CONNECTIONS_PER_ADDRESS_MAX", value_name = "NUMBER")]
    pub connections_per_address_max: Option<String>,
    /// The database
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// Where the providers are (stock, invoices, payments, carrier, mail) [default:
    /// http://127.0.0.1:8090]
    #[arg(long, env = "AMENDS_PROVIDERS_URL", value_name = "URL", hide_env_values = true)]
    pub providers_url: Option<String>,
    /// File that holds where the providers are
    #[arg(long, env = "AMENDS_PROVIDERS_URL_FILE", value_name = "FILE")]
    pub providers_url_file: Option<String>,
    /// Not taken from the command line
    #[arg(long, env = "AMENDS_TOKENS", value_name = "TOKENS", hide = true)]
    pub tokens: Option<String>,
    /// File that holds the bearer tokens, unless AMENDS_TOKENS does: lines of name:role:token, or
    /// name@2027-03-31:role:token for one that expires after that day; roles: viewer, operator,
    /// ingest, auditor, admin. An ingest token names its shops behind it:
    /// name:ingest:token:shop|shop, or :* for every shop. Read again when it changes
    #[arg(long, env = "AMENDS_TOKENS_FILE", value_name = "FILE")]
    pub tokens_file: Option<String>,
    /// Not taken from the command line
    #[arg(long, env = "AMENDS_SHOPIFY_SECRETS", value_name = "SECRETS", hide = true)]
    pub shopify_secrets: Option<String>,
    /// File that holds Shopify shops and their secrets, unless AMENDS_SHOPIFY_SECRETS does: lines
    /// of shop=secret|secret. Read again when it changes
    #[arg(long, env = "AMENDS_SHOPIFY_SECRETS_FILE", value_name = "FILE")]
    pub shopify_secrets_file: Option<String>,
    /// Not taken from the command line
    #[arg(long, env = "AMENDS_EVENTS_URL", value_name = "URL", hide = true)]
    pub events_url: Option<String>,
    /// File that holds where events are posted, unless AMENDS_EVENTS_URL does; without both they
    /// are logged
    #[arg(long, env = "AMENDS_EVENTS_URL_FILE", value_name = "FILE")]
    pub events_url_file: Option<String>,
    /// How many instances are in memory at once
    #[arg(long, env = "AMENDS_INSTANCES_MAX", value_name = "NUMBER")]
    pub instances_max: Option<String>,
    /// How long a server may be silent before others take over what it holds (default 30)
    #[arg(long, env = "AMENDS_LEASE_SECONDS", value_name = "SECONDS")]
    pub lease_seconds: Option<String>,
    /// How long a server that starts waits for a database that can be written to (default 60)
    #[arg(long, env = "AMENDS_WAIT_DATABASE", value_name = "SECONDS")]
    pub wait_database: Option<String>,
    /// What becomes of orders once the database has lost commits that it had acknowledged: stop (the
    /// default) takes none in until `amends acknowledge-loss`; go-on takes them in as ever
    #[arg(long, env = "AMENDS_ON_LOST_COMMITS", value_name = "stop|go-on")]
    pub on_lost_commits: Option<String>,
    /// On how many machines an order has to be: local (the default), or replicated, which refuses a
    /// database whose commits do not wait for a standby
    #[arg(long, env = "AMENDS_DURABILITY", value_name = "local|replicated")]
    pub durability: Option<String>,
    /// Who says that an order is packed: unattended (the default) is nobody, so whatever is to be
    /// handed over is shipped in one parcel; person waits for the signal `packed`
    #[arg(long, env = "AMENDS_PACKING", value_name = "unattended|person")]
    pub packing: Option<String>,
    /// So long after a person could pack it, an order is late, and PACKING_LATE is published
    /// (default 14400)
    #[arg(long, env = "AMENDS_PACKING_LATE_SECONDS", value_name = "SECONDS")]
    pub packing_late_seconds: Option<String>,
    /// Where the stock is kept: provider (the default) is asked over HTTP; database is the table
    /// amends.stock
    #[arg(long, env = "AMENDS_STOCK", value_name = "provider|database")]
    pub stock: Option<String>,
    /// For so long a reservation in the database is certainly kept (default 604800)
    #[arg(long, env = "AMENDS_STOCK_KEPT_SECONDS", value_name = "SECONDS")]
    pub stock_kept_seconds: Option<String>,
}

/// The flags that say which database, as they are typed. [`Database::try_from`] checks them.
#[derive(Args)]
#[group(skip)]
pub struct DatabaseArguments {
    /// Database; without it a private one is started in the data directory. One with a password
    /// is not taken from the command line. Several servers, of which one is the primary:
    /// postgres://user@pg1:5432,pg2:5432/database?target_session_attrs=read-write
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// File that holds the address of the database
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<String>,
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
    /// Where metrics and the description of the API are served without a token; `None`: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Where instances are kept.
    pub database: Database,
    /// Where the providers are.
    pub providers_url: Secret,
    /// Where events are posted; `None`: they are logged.
    pub events_url: Option<Secret>,
    /// How many instances are in memory at once.
    pub instances_max: usize,
    /// How long this server may be silent before others take over what it holds.
    pub lease: Duration,
    /// How long it waits for its database when it starts.
    pub wait_database: Duration,
    /// What becomes of orders once the database has lost commits.
    pub on_lost_commits: OnLostCommits,
    /// On how many machines an order has to be.
    pub durability: Durability,
    /// How orders are carried out.
    pub setup: Setup,
    /// What the HTTP part has to know.
    pub http: HttpConfig,
    /// The files that it has come from, and that are read again.
    pub files: SecretFiles,
}

/// Files of secrets that are read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretFiles {
    /// Holds the tokens.
    pub tokens: Option<PathBuf>,
    /// Holds the secrets of Shopify's shops.
    pub shopify_secrets: Option<PathBuf>,
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
        let listen = reader.address("AMENDS_LISTEN", Some(&arguments.listen));
        let metrics_listen =
            reader.address("AMENDS_METRICS_LISTEN", arguments.metrics_listen.as_deref());
        let instances_max = reader.instances_max(arguments.instances_max.as_deref());
        let lease = reader.lease(arguments.lease_seconds.as_deref());
        let wait_database = reader.wait_database(arguments.wait_database.as_deref());
        let on_lost_commits = reader.one_of(
            "AMENDS_ON_LOST_COMMITS",
            arguments.on_lost_commits.as_deref(),
            [("stop", OnLostCommits::Stop), ("go-on", OnLostCommits::GoOn)],
        );
        let durability = reader.one_of(
            "AMENDS_DURABILITY",
            arguments.durability.as_deref(),
            [("local", Durability::Local), ("replicated", Durability::Replicated)],
        );
        let packing =
            reader.packing(arguments.packing.as_deref(), arguments.packing_late_seconds.as_deref());
        let stock =
            reader.stock(arguments.stock.as_deref(), arguments.stock_kept_seconds.as_deref());
        let connections = reader.connections(
            arguments.connections_max.as_deref(),
            arguments.connections_per_address_max.as_deref(),
        );
        let (url, file) = (arguments.providers_url, arguments.providers_url_file);
        let providers_url = reader.http_url("AMENDS_PROVIDERS_URL", url, file);
        let providers_url = providers_url.unwrap_or_else(|| Secret::new(PROVIDERS_URL_DEFAULT));
        let (url, file) = (arguments.events_url, arguments.events_url_file);
        let events_url = reader.http_url("AMENDS_EVENTS_URL", url, file);
        let database = reader.database(arguments.database);
        let tokens = reader.secret(TOKENS, arguments.tokens, arguments.tokens_file);
        let secrets = (arguments.shopify_secrets, arguments.shopify_secrets_file);
        let secrets = reader.secret(SHOPIFY_SECRETS, secrets.0, secrets.1);
        let http = HttpConfig {
            tokens: tokens.as_ref().map(|it| reader.tokens(it)).unwrap_or_default(),
            shopify: secrets.as_ref().map(|it| reader.shops(it)).unwrap_or_default(),
            connections: connections.unwrap_or_default(),
            ..HttpConfig::default()
        };
        let files = SecretFiles {
            tokens: tokens.and_then(|it| it.file),
            shopify_secrets: secrets.and_then(|it| it.file),
        };
        let read = (listen, instances_max, lease, wait_database);
        let (Some(listen), Some(instances_max), Some(lease), Some(wait_database)) = read else {
            return Err(Problems(reader.problems));
        };
        if !reader.problems.is_empty() {
            return Err(Problems(reader.problems));
        }
        Ok(Self {
            listen,
            metrics_listen,
            database,
            providers_url,
            events_url,
            instances_max,
            lease,
            wait_database,
            on_lost_commits,
            durability,
            setup: Setup { packing, stock },
            http,
            files,
        })
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

#[cfg(test)]
mod tests;
