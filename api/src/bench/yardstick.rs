//! The fixed yardsticks: plain inserts by plain clients, which know nothing of the engine.
//!
//! They are there so that an order can be said to cost so many such rows, on any machine and at any
//! time; the bare write path cannot serve for that, since it gets better with the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use super::cpu::Postmaster;
use super::figures::{Figures, rounded};
use super::load::now;
use super::meter::Meter;

const FILE: &str = include_str!("yardsticks.sql");
/// How long a turn of a yardstick takes.
const TURN: Duration = Duration::from_secs(2);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Yardstick {
    /// Its part of the file.
    part: &'static str,
    clients: usize,
    rows_per_commit: u32,
}

impl Yardstick {
    pub(super) const MANY: Self = Self { part: "many", clients: 1, rows_per_commit: 512 };
    pub(super) const SHAPE: Self = Self { part: "shape", clients: 1, rows_per_commit: 20 * 85 };
    pub(super) const ONE: Self = Self { part: "one", clients: 1, rows_per_commit: 1 };
    pub(super) const CROWD: Self = Self { part: "one", clients: 64, rows_per_commit: 1 };

    /// Commits for the length of a turn, on empty tables.
    pub(super) async fn run(
        self,
        database: &PgConnectOptions,
        observer: &mut PgConnection,
        postmaster: Option<Postmaster>,
    ) -> anyhow::Result<Figures> {
        sqlx::raw_sql(part("empty")?).execute(&mut *observer).await?;
        let sql = part(self.part)?;
        let mut clients = Vec::new();
        let warm = 1..=self.clients;
        for commit in warm {
            let mut connection = connect(database).await?;
            // The plan is made before the clock runs.
            sqlx::query(sql).bind(i64::try_from(commit)?).execute(&mut connection).await?;
            clients.push(connection);
        }
        let first = i64::try_from(self.clients + 1)?;
        let number = Arc::new(AtomicI64::new(first));
        let before = Meter::read(observer, postmaster).await?;
        let began = now();
        let running = clients.into_iter().map(|mut connection| {
            let number = Arc::clone(&number);
            tokio::spawn(async move {
                while began.elapsed() < TURN {
                    let commit = number.fetch_add(1, Ordering::Relaxed);
                    sqlx::query(sql).bind(commit).execute(&mut connection).await?;
                }
                connection.close().await
            })
        });
        for client in futures::future::join_all(running).await {
            client??;
        }
        let seconds = began.elapsed().as_secs_f64();
        let commits = (number.load(Ordering::Relaxed) - first) as f64;
        let rows = commits * f64::from(self.rows_per_commit);
        // Per thousand rows, so that milliseconds have digits.
        let spent = before.until(Meter::read(observer, postmaster).await?, rows / 1000.0);
        let mut figures: Figures = spent
            .into_iter()
            .map(|(name, value)| match name.as_str() {
                "cores_busy" => (name, value),
                _ => (format!("{name}_per_1000_rows"), value),
            })
            .collect();
        figures.insert("commits_per_second".to_owned(), rounded(commits / seconds));
        figures.insert("rows_per_second".to_owned(), rounded(rows / seconds));
        Ok(figures)
    }
}

/// Makes the tables.
pub(super) async fn set_up(observer: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql(part("setup")?).execute(observer).await?;
    Ok(())
}

/// The digest of the file, in hex: reports with different ones cannot be compared.
pub(super) fn digest() -> String {
    Sha256::digest(FILE).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A session as the engine's are.
async fn connect(database: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    let settings = [("jit", "off"), ("synchronous_commit", "on")];
    database.clone().options(settings).connect().await
}

/// A part of the file, by its name.
fn part(name: &str) -> anyhow::Result<&'static str> {
    let mut parts = FILE.split("-- part: ").skip(1);
    let part = parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('\n'));
    part.with_context(|| format!("the yardsticks have no part {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yardsticks_are_as_they_always_were() {
        // Never change this together with the engine: figures before and after could not be
        // compared any more.
        assert_eq!(digest(), "a957fc8f999c6c1e55243de7044e8bdbdcd7367148aff7d3768959955cc4ee66");
    }

    #[test]
    fn every_yardstick_has_its_part() {
        for yardstick in [Yardstick::MANY, Yardstick::SHAPE, Yardstick::ONE, Yardstick::CROWD] {
            assert!(part(yardstick.part).unwrap().contains("insert into yardstick."));
        }
        assert!(part("setup").unwrap().contains("create table"));
        assert!(part("empty").unwrap().starts_with("truncate"));
        assert!(part("man").is_err());
    }
}
