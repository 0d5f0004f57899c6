//! What a benchmark has found, as JSON.

use std::time::Duration;

use amends::bare::Took;
use serde::Serialize;
use sqlx::PgConnection;

use super::load::Ran;
use super::{Options, Spent};

/// The result of a benchmark. Rates are medians over the rounds.
#[derive(Debug, Serialize)]
pub struct Report {
    orders: usize,
    concurrency: usize,
    rounds: usize,
    server: Server,
    engine: Round,
    bare: Round,
    /// Engine by bare write path, orders completed per second.
    ratio: f64,
    /// The same, counted until the outbox was empty.
    ratio_drained: f64,
    one_at_a_time: OneAtATime,
    all_rounds: Vec<(Round, Round)>,
}

/// One round of either kind.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Round {
    orders_per_second: f64,
    orders_per_second_drained: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Percentiles>,
    commits_per_order: f64,
    wal_bytes_per_order: f64,
}

#[derive(Debug, Clone, Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
}

/// One order at a time: from acceptance to its end, and its bare commits one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone {
    pub(super) engine: Duration,
    pub(super) bare: Duration,
    pub(super) commits: usize,
}

#[derive(Debug, Serialize)]
struct OneAtATime {
    engine_ms: f64,
    sequential_commits_ms: f64,
    sequential_commits: usize,
    ratio: f64,
}

/// The server, as far as it matters.
#[derive(Debug, Serialize)]
pub(super) struct Server {
    version: String,
    synchronous_commit: String,
    fsync: String,
    full_page_writes: String,
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

impl Round {
    pub(super) fn of_engine(ran: &Ran, drained: Duration, orders: usize, spent: Spent) -> Self {
        let latency_ms =
            Percentiles { p50: milliseconds(ran.latency(50)), p99: milliseconds(ran.latency(99)) };
        Self::of(orders, ran.ended, drained, Some(latency_ms), spent)
    }

    pub(super) fn of_bare(took: Took, orders: usize, spent: Spent) -> Self {
        Self::of(orders, took.ended, took.drained, None, spent)
    }

    fn of(
        orders: usize,
        ended: Duration,
        drained: Duration,
        latency_ms: Option<Percentiles>,
        spent: Spent,
    ) -> Self {
        let orders = orders as f64;
        Self {
            orders_per_second: rounded(orders / ended.as_secs_f64()),
            orders_per_second_drained: rounded(orders / drained.as_secs_f64()),
            latency_ms,
            commits_per_order: rounded(spent.commits as f64 / orders),
            wal_bytes_per_order: rounded(spent.wal_bytes as f64 / orders),
        }
    }
}

impl Report {
    pub(super) fn new(
        options: Options,
        server: Server,
        engine: Vec<Round>,
        bare: Vec<Round>,
        alone: Vec<Alone>,
    ) -> Self {
        let each = |rounds: &[Round], rate: fn(&Round) -> f64| rounds.iter().map(rate).collect();
        let ratio = |rate: fn(&Round) -> f64| {
            let pairs = engine.iter().zip(&bare);
            rounded(median(pairs.map(|(engine, bare)| rate(engine) / rate(bare)).collect()))
        };
        let typical = |rounds: &[Round]| Round {
            orders_per_second: median(each(rounds, |round| round.orders_per_second)),
            orders_per_second_drained: median(each(rounds, |round| {
                round.orders_per_second_drained
            })),
            latency_ms: rounds.first().and_then(|round| round.latency_ms.as_ref()).map(|_| {
                let latency = |pick: fn(&Percentiles) -> f64| {
                    median(rounds.iter().filter_map(|r| r.latency_ms.as_ref()).map(pick).collect())
                };
                Percentiles { p50: latency(|l| l.p50), p99: latency(|l| l.p99) }
            }),
            commits_per_order: median(each(rounds, |round| round.commits_per_order)),
            wal_bytes_per_order: median(each(rounds, |round| round.wal_bytes_per_order)),
        };
        let each_alone = |pick: fn(&Alone) -> f64| median(alone.iter().map(pick).collect());
        Self {
            orders: options.orders,
            concurrency: options.concurrency,
            rounds: options.rounds,
            server,
            engine: typical(&engine),
            bare: typical(&bare),
            ratio: ratio(|round| round.orders_per_second),
            ratio_drained: ratio(|round| round.orders_per_second_drained),
            one_at_a_time: OneAtATime {
                engine_ms: each_alone(|alone| milliseconds(alone.engine)),
                sequential_commits_ms: each_alone(|alone| milliseconds(alone.bare)),
                sequential_commits: alone.first().map_or(0, |alone| alone.commits),
                ratio: rounded(each_alone(|alone| {
                    alone.engine.as_secs_f64() / alone.bare.as_secs_f64()
                })),
            },
            all_rounds: engine.into_iter().zip(bare).collect(),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn milliseconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1000.0)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
