//! What a benchmark has found.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::PgConnection;

use super::Options;
use super::figures::{Figures, Spread, ratio, summary};
use super::yardstick;

/// By how many rows per order the bare write path may be off: what is no part of an order is
/// counted too.
const ROWS_OFF_MAX: f64 = 0.1;

/// The result of a benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Orders per round.
    pub orders: usize,
    /// Orders under way at once.
    pub concurrency: usize,
    /// How often each contestant had its turn.
    pub rounds: usize,
    /// What chance was made of.
    pub seed: u64,
    /// The server.
    pub server: Server,
    /// SHA-256 of the file with the yardsticks.
    pub yardsticks_sha256: String,
    /// What each contestant came to.
    pub contestants: BTreeMap<String, Contest>,
    /// What is told by two contestants together.
    pub compared: Compared,
}

/// The turns of a contestant.
#[derive(Debug, Default, Serialize)]
pub struct Contest {
    /// Every figure over all rounds.
    pub summary: BTreeMap<String, Spread>,
    /// Every round.
    pub rounds: Vec<Figures>,
}

/// What is told by two contestants together, round by round.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// Orders per second of the engine by those of the bare write path.
    pub engine_by_bare: Option<Spread>,
    /// The same, counted until the outbox was empty.
    pub engine_by_bare_drained: Option<Spread>,
    /// One order at a time by its commits alone.
    pub one_at_a_time_by_its_commits: Option<Spread>,
    /// How many rows of a yardstick are written in the time of an order.
    pub rows_by_time: BTreeMap<String, Spread>,
    /// How many rows of a yardstick cost Postgres as much processor time as an order.
    pub rows_by_postgres_cpu: BTreeMap<String, Spread>,
    /// Orders per second if every write of an order were a commit of a yardstick: what can be had at
    /// best without batches.
    pub orders_at_one_commit_per_write: BTreeMap<String, Spread>,
    /// Rows per order that the bare write path writes and the engine does not, or the other way
    /// round: `[engine, bare]`. None: it issues what the engine issues.
    pub bare_differs: BTreeMap<String, [f64; 2]>,
}

/// The server, as far as it matters.
#[derive(Debug, Serialize)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// A setting of that name, as everything below.
    pub synchronous_commit: String,
    /// Whether it waits for the disk.
    pub fsync: String,
    /// Whether it logs whole pages after a checkpoint.
    pub full_page_writes: String,
}

impl Server {
    pub(super) async fn of(observer: &mut PgConnection) -> anyhow::Result<Self> {
        let (version, synchronous_commit, fsync, full_page_writes) = sqlx::query_as(
            "select current_setting('server_version'), current_setting('synchronous_commit'),
                    current_setting('fsync'), current_setting('full_page_writes')",
        )
        .fetch_one(observer)
        .await?;
        Ok(Self { version, synchronous_commit, fsync, full_page_writes })
    }
}

/// All rounds of all contestants, by name.
pub(super) type Rounds = BTreeMap<String, Vec<Figures>>;

impl Report {
    pub(super) fn new(options: Options, server: Server, rounds: Rounds) -> Self {
        let compared = Compared::of(&rounds);
        let contests = rounds.into_iter().map(|(name, rounds)| {
            let summary = summary(&rounds);
            (name, Contest { summary, rounds })
        });
        Self {
            orders: options.orders,
            concurrency: options.concurrency,
            rounds: options.rounds,
            seed: options.seed,
            server,
            yardsticks_sha256: yardstick::digest(),
            contestants: contests.collect(),
            compared,
        }
    }

    /// The typical value of a figure of a contestant.
    #[must_use]
    pub fn spread(&self, contestant: &str, figure: &str) -> Option<Spread> {
        self.contestants.get(contestant)?.summary.get(figure).copied()
    }
}

impl Compared {
    fn of(all: &Rounds) -> Self {
        let rounds = |name: &str| all.get(name).map(Vec::as_slice).unwrap_or_default();
        let (engine, bare) = (rounds("engine"), rounds("bare"));
        let by_yardstick = |of: &dyn Fn(&[Figures]) -> Option<Spread>| {
            let told = all.iter().filter_map(|(name, rounds)| Some((name.clone(), of(rounds)?)));
            told.collect()
        };
        Self {
            engine_by_bare: ratio((engine, "orders_per_second"), (bare, "orders_per_second")),
            engine_by_bare_drained: ratio(
                (engine, "orders_per_second_drained"),
                (bare, "orders_per_second_drained"),
            ),
            one_at_a_time_by_its_commits: ratio(
                (rounds("one_at_a_time"), "latency_ms_mean"),
                (rounds("its_commits_alone"), "latency_ms_mean"),
            ),
            rows_by_time: by_yardstick(&|rounds| {
                let by = ratio((rounds, "rows_per_second"), (engine, "orders_per_second"))?;
                Some(by.times(1.0))
            }),
            rows_by_postgres_cpu: by_yardstick(&|rounds| {
                let figure = "postgres_cpu_ms_per_1000_rows";
                let by = ratio((engine, "postgres_cpu_ms"), (rounds, figure))?;
                Some(by.times(1000.0))
            }),
            orders_at_one_commit_per_write: by_yardstick(&|rounds| {
                let by = ratio((rounds, "commits_per_second"), (engine, "writes"))?;
                Some(by.times(1.0))
            }),
            bare_differs: differences(engine, bare),
        }
    }
}

/// The rows per order in which the two differ, by table and kind, with both medians.
fn differences(engine: &[Figures], bare: &[Figures]) -> BTreeMap<String, [f64; 2]> {
    if engine.is_empty() || bare.is_empty() {
        return BTreeMap::new();
    }
    let (engine, bare) = (summary(engine), summary(bare));
    let names: BTreeSet<&String> = engine.keys().chain(bare.keys()).collect();
    let rows = names.into_iter().filter(|name| name.starts_with("rows."));
    rows.filter_map(|name| {
        let median = |of: &BTreeMap<String, Spread>| of.get(name).map_or(0.0, |it| it.median);
        let both = [median(&engine), median(&bare)];
        ((both[0] - both[1]).abs() > ROWS_OFF_MAX).then(|| (name.clone(), both))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(figures: &[(&str, f64)]) -> Vec<Figures> {
        vec![figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()]
    }

    #[test]
    fn an_order_is_told_in_rows_of_a_yardstick() {
        let all = [
            (
                "engine",
                rounds(&[("orders_per_second", 2000.0), ("postgres_cpu_ms", 0.3), ("writes", 6.0)]),
            ),
            (
                "rows",
                rounds(&[
                    ("rows_per_second", 50_000.0),
                    ("commits_per_second", 9000.0),
                    ("postgres_cpu_ms_per_1000_rows", 15.0),
                ]),
            ),
        ];
        let compared = Compared::of(&all.map(|(name, it)| (name.to_owned(), it)).into());
        let median = |of: &BTreeMap<String, Spread>| of.get("rows").map(|it| it.median);
        assert_eq!(median(&compared.rows_by_time), Some(25.0));
        assert_eq!(median(&compared.rows_by_postgres_cpu), Some(20.0));
        assert_eq!(median(&compared.orders_at_one_commit_per_write), Some(1500.0));
        assert_eq!(compared.engine_by_bare, None);
    }

    #[test]
    fn a_row_more_or_less_per_order_is_told() {
        let engine = rounds(&[("rows.instance.updated", 2.0), ("rows.record.inserted", 7.0)]);
        let bare = rounds(&[("rows.instance.updated", 1.0), ("rows.record.inserted", 7.01)]);
        let found = differences(&engine, &bare);
        assert_eq!(found, [("rows.instance.updated".to_owned(), [2.0, 1.0])].into());
        assert!(differences(&engine, &engine).is_empty());
        assert!(differences(&engine, &[]).is_empty());
    }
}
