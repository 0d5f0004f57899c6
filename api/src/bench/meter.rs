//! What a turn has spent: processors, log, rows, commits.
//!
//! Processors and log are read at both ends of the turn. Rows, transactions and fsyncs are what the
//! server has counted, which it knows of a session for certain only when that has ended; they are
//! read before the first session of a turn and after the last, and shared among all its orders.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::{Executor, PgConnection};

use super::cpu::{self, Postmaster};
use super::figures::{Figures, rounded};
use super::load::now;

/// Fewer rows per order are no part of an order.
const ROWS_MIN: f64 = 0.1;
/// How long sessions may take to go.
const GOING: Duration = Duration::from_secs(10);

/// The readings at one end of a turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    at: Instant,
    process: Option<Duration>,
    postgres: Option<Duration>,
    wal_bytes: i64,
}

impl Meter {
    pub(super) async fn read(
        observer: &mut PgConnection,
        postmaster: Option<Postmaster>,
    ) -> anyhow::Result<Self> {
        let wal_bytes = sqlx::query_scalar("select (pg_current_wal_insert_lsn() - '0/0')::bigint")
            .fetch_one(observer)
            .await?;
        let postgres = postmaster.and_then(Postmaster::spent);
        Ok(Self { at: now(), process: cpu::of_this_process(), postgres, wal_bytes })
    }

    /// What was spent from this reading to a later one, per one of `count`.
    pub(super) fn until(self, later: Self, count: f64) -> Figures {
        let between =
            |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
        let process = between(self.process, later.process);
        let postgres = between(self.postgres, later.postgres);
        let wall = (later.at - self.at).as_secs_f64();
        let busy = process.zip(postgres).map(|(a, b)| (a + b).as_secs_f64() / wall);
        let each = |spent: Duration| spent.as_secs_f64() * 1000.0 / count;
        let figures = [
            ("process_cpu_ms", process.map(each)),
            ("postgres_cpu_ms", postgres.map(each)),
            ("cores_busy", busy),
            ("wal_bytes", Some((later.wal_bytes - self.wal_bytes) as f64 / count)),
        ];
        known(figures)
    }
}

/// Figures by name, without those that are not known.
pub(super) fn known<const COUNT: usize>(figures: [(&str, Option<f64>); COUNT]) -> Figures {
    let known = figures.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    // A thousandth of a millisecond is not measured anyway.
    known.map(|(name, value)| (name, (value * 10_000.0).round() / 10_000.0)).collect()
}

/// What the server has counted in this database while nobody but us was there.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    transactions: i64,
    /// Of the whole server; newer ones count elsewhere.
    syncs: Option<i64>,
    tables: BTreeMap<String, Rows>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Rows {
    inserted: i64,
    updated: i64,
    hot: i64,
    deleted: i64,
}

impl Counters {
    /// Waits until all other sessions have gone, and with them what they had not told yet.
    pub(super) async fn read(observer: &mut PgConnection) -> anyhow::Result<Self> {
        let began = now();
        while began.elapsed() < GOING && sessions(observer).await? > 0 {
            tokio::task::yield_now().await;
        }
        let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
            .fetch_one(&mut *observer)
            .await?;
        if version < 150_000 {
            // What has been told is written down twice a second.
            observer.execute("select pg_sleep(1.1), pg_stat_clear_snapshot()").await?;
        }
        let (transactions, syncs) = sqlx::query_as(
            "select xact_commit, (to_jsonb(w) ->> 'wal_sync')::bigint
             from pg_stat_database cross join pg_stat_wal w where datname = current_database()",
        )
        .fetch_one(&mut *observer)
        .await?;
        let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
            "select relname::text, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del
             from pg_stat_user_tables where schemaname = 'amends'",
        )
        .fetch_all(&mut *observer)
        .await?;
        let tables = rows.into_iter().map(|(table, inserted, updated, hot, deleted)| {
            (table, Rows { inserted, updated, hot, deleted })
        });
        Ok(Self { transactions, syncs, tables: tables.collect() })
    }

    /// What has been counted from this reading to a later one, per one of `count` orders.
    pub(super) fn until(&self, later: &Self, count: f64) -> Figures {
        let syncs = self.syncs.zip(later.syncs).map(|(from, to)| (to - from) as f64 / count);
        let transactions = (later.transactions - self.transactions) as f64 / count;
        let mut figures = known([("transactions", Some(transactions)), ("syncs", syncs)]);
        let (mut updated, mut hot) = (0, 0);
        for (table, to) in &later.tables {
            let from = self.tables.get(table).copied().unwrap_or_default();
            updated += to.updated - from.updated;
            hot += to.hot - from.hot;
            for (what, rows) in [
                ("inserted", to.inserted - from.inserted),
                ("updated", to.updated - from.updated),
                ("deleted", to.deleted - from.deleted),
            ] {
                // What happens now and then (a lease, a worker) is no part of an order.
                let rows = rounded(rows as f64 / count);
                if rows >= ROWS_MIN {
                    figures.insert(format!("rows.{table}.{what}"), rows);
                }
            }
        }
        if updated > 0 {
            figures.insert("hot_share".to_owned(), rounded(hot as f64 / updated as f64));
        }
        figures
    }
}

/// How many sessions of clients there are in this database beside this one.
async fn sessions(observer: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()
           and backend_type = 'client backend'",
    )
    .fetch_one(observer)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(updated: i64, hot: i64, inserted: i64, syncs: Option<i64>) -> Counters {
        let rows = Rows { inserted, updated, hot, deleted: 0 };
        let tables = [("instance".to_owned(), rows)].into();
        Counters { transactions: inserted, syncs, tables }
    }

    #[test]
    fn rows_are_told_per_order_and_updates_in_place_as_a_share() {
        let (before, after) = (counters(10, 5, 100, None), counters(210, 65, 200, Some(3)));
        let figures = before.until(&after, 100.0);
        assert_eq!(figures.get("rows.instance.updated"), Some(&2.0));
        assert_eq!(figures.get("rows.instance.inserted"), Some(&1.0));
        assert_eq!(figures.get("rows.instance.deleted"), None);
        assert_eq!(figures.get("hot_share"), Some(&0.3));
        assert_eq!(figures.get("syncs"), None);
    }

    #[test]
    fn processors_are_told_per_order_and_not_at_all_where_one_side_is_not_known() {
        let at = now();
        let second = Duration::from_secs;
        let from = Meter { at, process: Some(second(1)), postgres: Some(second(4)), wal_bytes: 7 };
        let to = Meter {
            at: at + second(2),
            process: Some(second(2)),
            postgres: Some(second(6)),
            wal_bytes: 1007,
        };
        let figures = from.until(to, 1000.0);
        assert_eq!(figures.get("process_cpu_ms"), Some(&1.0));
        assert_eq!(figures.get("postgres_cpu_ms"), Some(&2.0));
        assert_eq!(figures.get("cores_busy"), Some(&1.5));
        assert_eq!(figures.get("wal_bytes"), Some(&1.0));
        let figures = Meter { postgres: None, ..from }.until(to, 1000.0);
        assert_eq!((figures.get("postgres_cpu_ms"), figures.get("cores_busy")), (None, None));
    }
}
