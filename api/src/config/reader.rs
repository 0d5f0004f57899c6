//! Reads settings that are one value each.

use std::net::SocketAddr;
use std::time::Duration;

use amends::Address;
use amends_workflows::fulfilment::{Packing, StockKeeping};

use super::{
    ConnectionLimits, Database, DatabaseArguments, INSTANCES_MAX_DEFAULT, LEASE_SECONDS,
    LEASE_SECONDS_DEFAULT, PACKING_LATE_SECONDS_DEFAULT, STOCK_KEPT_SECONDS_DEFAULT,
    WAIT_DATABASE_SECONDS_DEFAULT,
};
use crate::secret::Secret;
use crate::sink::http::http_url;

/// Reads settings, and keeps what is wrong with them. No problem repeats a value that may be
/// secret.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<String>,
}

impl Reader {
    pub(super) fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }

    pub(super) fn address(&mut self, name: &str, text: Option<&str>) -> Option<SocketAddr> {
        let text = text.filter(|text| !text.is_empty() || name == "AMENDS_LISTEN")?;
        let address = text.parse().ok();
        if address.is_none() {
            self.problem(format!(
                "{name}: {text} is not an address with a port, such as 127.0.0.1:8080"
            ));
        }
        address
    }

    pub(super) fn instances_max(&mut self, text: Option<&str>) -> Option<usize> {
        self.number("AMENDS_INSTANCES_MAX", text, INSTANCES_MAX_DEFAULT, 1)
    }

    /// How many connections there may be. 0 per address means no limit of that kind.
    pub(super) fn connections(
        &mut self,
        all: Option<&str>,
        per_address: Option<&str>,
    ) -> Option<ConnectionLimits> {
        let default = ConnectionLimits::default();
        let all = self.number("AMENDS_CONNECTIONS_MAX", all, default.all, 1);
        let (name, usual) =
            ("AMENDS_CONNECTIONS_PER_ADDRESS_MAX", default.per_address.unwrap_or_default());
        let per_address = self.number(name, per_address, usual, 0)?;
        Some(ConnectionLimits { all: all?, per_address: (per_address > 0).then_some(per_address) })
    }

    fn number(
        &mut self,
        name: &str,
        text: Option<&str>,
        default: usize,
        min: usize,
    ) -> Option<usize> {
        let number = match text {
            None | Some("") => Some(default),
            Some(text) => text.parse().ok().filter(|number| *number >= min),
        };
        if number.is_none() {
            self.problem(format!("{name}: has to be a number, {min} or more"));
        }
        number
    }

    pub(super) fn wait_database(&mut self, text: Option<&str>) -> Option<Duration> {
        let seconds =
            self.number("AMENDS_WAIT_DATABASE", text, WAIT_DATABASE_SECONDS_DEFAULT, 0)?;
        Some(Duration::from_secs(seconds as u64))
    }

    /// One of these words; the first one if there is none.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &str,
        text: Option<&str>,
        words: [(&str, T); 2],
    ) -> T {
        let [(usual, default), (other, another)] = words;
        match text {
            None | Some("") => default,
            Some(text) if text == usual => default,
            Some(text) if text == other => another,
            Some(_) => {
                self.problem(format!("{name}: has to be {usual} or {other}"));
                default
            }
        }
    }

    pub(super) fn packing(&mut self, who: Option<&str>, late: Option<&str>) -> Packing {
        let words = [("unattended", false), ("person", true)];
        let by_person = self.one_of("AMENDS_PACKING", who, words);
        let name = "AMENDS_PACKING_LATE_SECONDS";
        let late_after_seconds = self.seconds(name, late, PACKING_LATE_SECONDS_DEFAULT);
        if by_person { Packing::Person { late_after_seconds } } else { Packing::Unattended }
    }

    pub(super) fn stock(&mut self, where_kept: Option<&str>, kept: Option<&str>) -> StockKeeping {
        let words = [("provider", false), ("database", true)];
        let is_here = self.one_of("AMENDS_STOCK", where_kept, words);
        let name = "AMENDS_STOCK_KEPT_SECONDS";
        let keep_for_seconds = self.seconds(name, kept, STOCK_KEPT_SECONDS_DEFAULT);
        if is_here { StockKeeping::Database { keep_for_seconds } } else { StockKeeping::Provider }
    }

    /// A second or more; more than a century is as good as for ever.
    fn seconds(&mut self, name: &str, text: Option<&str>, default: usize) -> u32 {
        let seconds = self.number(name, text, default, 1).unwrap_or(default);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }

    pub(super) fn lease(&mut self, text: Option<&str>) -> Option<Duration> {
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

    pub(super) fn http_url(
        &mut self,
        name: &'static str,
        url: Option<String>,
        file: Option<String>,
    ) -> Option<Secret> {
        let given = self.secret(name, url, file)?;
        if http_url(&given.text).is_none() {
            let from = given.setting();
            self.problem(format!("{from}: has to be an address, such as http://127.0.0.1:8090"));
        }
        Some(Secret::new(given.text))
    }

    pub(super) fn database(&mut self, arguments: DatabaseArguments) -> Database {
        let DatabaseArguments { database_url, database_url_file, data_dir, pg_bin } = arguments;
        let Some(given) = self.secret("DATABASE_URL", database_url, database_url_file) else {
            return Database::Embedded { data_dir, bin_dir: pg_bin };
        };
        let url = &given.text;
        if let Err(bad) = url.parse::<Address>() {
            let from = given.setting();
            self.problem(format!("{from}: {bad}"));
        }
        Database::Url(Secret::new(given.text))
    }
}

/// The entries of a list, each with its place from 1: one per line, or between commas. Empty ones
/// are left out, and lines that begin with `#`; both count.
pub(super) fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let entries = text.lines().flat_map(|line| {
        let is_comment = line.trim_start().starts_with('#');
        let line = if is_comment { "" } else { line };
        line.split(',')
    });
    let entries = entries.map(str::trim).enumerate();
    entries.filter(|(_, entry)| !entry.is_empty()).map(|(index, entry)| (index + 1, entry))
}
