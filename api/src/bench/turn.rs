//! One turn of a contestant: what runs, and what it costs per order.

use amends::bare::{Bare, Recorder, Took};
use amends::probe::Probes;
use amends::sink::{Delivered, Sink, Undelivered};
use amends::{Engine, Settings};
use amends_workflows::fulfilment;
use amends_workflows::ports::Ports;
use futures::future::BoxFuture;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;

use super::chance::Chance;
use super::cpu::Postmaster;
use super::figures::{Figures, Spread, rounded};
use super::load::{self, Ran};
use super::meter::{Counters, Meter, known};
use super::orders;
use super::yardstick::Yardstick;

/// Orders that an engine runs before the clock does, and how many of them at once at the most.
const WARM: usize = 200;
const WARM_CONCURRENCY: usize = 50;
/// Orders run one at a time, for the latency at low load.
const ALONE: usize = 300;

/// Who takes turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contestant {
    /// The engine, with as many orders at once as was asked for.
    Engine,
    /// The bare write path, with as many.
    Bare,
    /// The engine, with one order at a time.
    Alone,
    /// The commits of an order one after the other, with one order at a time.
    CommitsAlone,
    /// What knows nothing of the engine.
    Yardstick(&'static str, Yardstick),
}

impl Contestant {
    pub(super) const ENGINE_ONLY: [Self; 2] = [Self::Engine, Self::Alone];
    pub(super) const ALL: [Self; 8] = [
        Self::Engine,
        Self::Bare,
        Self::Alone,
        Self::CommitsAlone,
        Self::Yardstick("rows_512_per_commit", Yardstick::MANY),
        Self::Yardstick("rows_of_85_orders_per_commit", Yardstick::SHAPE),
        Self::Yardstick("one_row_per_commit", Yardstick::ONE),
        Self::Yardstick("one_row_per_commit_64_clients", Yardstick::CROWD),
    ];

    /// What the report calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Bare => "bare",
            Self::Alone => "one_at_a_time",
            Self::CommitsAlone => "its_commits_alone",
            Self::Yardstick(name, _) => name,
        }
    }
}

/// How many orders, and how many at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    pub(super) orders: usize,
    pub(super) concurrency: usize,
}

impl Crowd {
    const ALONE: Self = Self { orders: ALONE, concurrency: 1 };
}

/// Where turns are taken, and what is read meanwhile.
pub(super) struct Course {
    pub(super) database: PgConnectOptions,
    pub(super) observer: PgConnection,
    pub(super) postmaster: Option<Postmaster>,
    /// What an engine has written for a few orders.
    pub(super) pattern: Recorder,
    pub(super) crowd: Crowd,
    pub(super) chance: Chance,
}

impl Course {
    /// Runs a few orders, and keeps what was written for them. It also brings the tables about.
    pub(super) async fn record_pattern(&mut self) -> anyhow::Result<()> {
        let engine = self.engine(&self.pattern).await?;
        self.warm_up(&engine, "pattern", WARM_CONCURRENCY).await?;
        Ok(engine.shutdown().await?)
    }

    /// Has a contestant take its turn; `round` tells its orders from those of other rounds.
    pub(super) async fn turn(
        &mut self,
        contestant: Contestant,
        round: usize,
    ) -> anyhow::Result<Figures> {
        let name = format!("{}-{round}", contestant.name());
        match contestant {
            Contestant::Engine => self.of_engine(&name, self.crowd).await,
            Contestant::Alone => self.of_engine(&name, Crowd::ALONE).await,
            Contestant::Bare => self.of_bare(&name, self.crowd).await,
            Contestant::CommitsAlone => self.of_bare(&name, Crowd::ALONE).await,
            Contestant::Yardstick(_, yardstick) => {
                yardstick.run(&self.database, &mut self.observer, self.postmaster).await
            }
        }
    }

    async fn of_engine(&mut self, name: &str, crowd: Crowd) -> anyhow::Result<Figures> {
        let counted = Counters::read(&mut self.observer).await?;
        let recorder = Recorder::of_sizes();
        let engine = self.engine(&recorder).await?;
        self.warm_up(&engine, &format!("{name}-warm"), crowd.concurrency.min(WARM_CONCURRENCY))
            .await?;
        let starts = orders::starts(name, crowd.orders, &mut self.chance)?;
        let _of_the_warm_up = recorder.take_sizes();
        let before = Meter::read(&mut self.observer, self.postmaster).await?;
        let ran = load::run(&engine, starts, crowd.concurrency).await?;
        let drained = load::drained(&mut self.observer).await? - ran.began;
        let after = Meter::read(&mut self.observer, self.postmaster).await?;
        let sizes = recorder.take_sizes();
        engine.shutdown().await?;
        drop(engine);
        let counted =
            counted.until(&Counters::read(&mut self.observer).await?, (crowd.orders + WARM) as f64);

        let orders = crowd.orders as f64;
        let mut figures = before.until(after, orders);
        figures.extend(counted);
        figures.extend(rates(orders, ran.ended.as_secs_f64(), drained.as_secs_f64()));
        figures.extend(latencies(&ran));
        figures.extend(batches(&sizes, orders));
        Ok(figures)
    }

    async fn of_bare(&mut self, name: &str, crowd: Crowd) -> anyhow::Result<Figures> {
        let counted = Counters::read(&mut self.observer).await?;
        let mut bare = Bare::open(self.database.clone(), &self.pattern, name).await?;
        let before = Meter::read(&mut self.observer, self.postmaster).await?;
        let Took { ended, drained, batches: sizes } = match crowd.concurrency {
            1 => bare.run_alone(crowd.orders).await?,
            concurrency => bare.run(crowd.orders, concurrency).await?,
        };
        let after = Meter::read(&mut self.observer, self.postmaster).await?;
        bare.close().await?;
        let orders = crowd.orders as f64;
        let counted = counted.until(&Counters::read(&mut self.observer).await?, orders);

        let mut figures = before.until(after, orders);
        figures.extend(counted);
        figures.extend(rates(orders, ended.as_secs_f64(), drained.as_secs_f64()));
        let each = (crowd.concurrency == 1).then(|| ended.as_secs_f64() * 1000.0 / orders);
        figures.extend(known([("latency_ms_mean", each)]));
        figures.extend(batches(&sizes, orders));
        Ok(figures)
    }

    async fn engine(&self, recorder: &Recorder) -> anyhow::Result<Engine> {
        // The first version, whatever later ones do: what an order costs is compared over the years.
        let builder =
            fulfilment::register_first(Engine::builder(self.database.clone()), Ports::instant())
                .subscription("bench", Discard)
                .probes(Probes::default().record(recorder))
                .settings(Settings {
                    instances_max: self.crowd.concurrency.max(Settings::default().instances_max),
                    ..Settings::default()
                });
        Ok(builder.open().await?)
    }

    async fn warm_up(
        &mut self,
        engine: &Engine,
        name: &str,
        concurrency: usize,
    ) -> anyhow::Result<()> {
        let starts = orders::starts(name, WARM, &mut self.chance)?;
        load::run(engine, starts, concurrency).await?;
        load::drained(&mut self.observer).await?;
        Ok(())
    }
}

fn rates(orders: f64, ended: f64, drained: f64) -> Figures {
    known([
        ("orders_per_second", Some(orders / ended)),
        ("orders_per_second_drained", Some(orders / drained)),
    ])
}

fn latencies(ran: &Ran) -> Figures {
    let milliseconds = |latency: std::time::Duration| Some(latency.as_secs_f64() * 1000.0);
    known([
        ("latency_ms_mean", milliseconds(ran.mean())),
        ("latency_ms_p50", milliseconds(ran.latency(50))),
        ("latency_ms_p99", milliseconds(ran.latency(99))),
    ])
}

/// What the statements of the write path tell of an order.
fn batches(sizes: &[usize], orders: f64) -> Figures {
    let writes: usize = sizes.iter().sum();
    let spread = Spread::of(sizes.iter().map(|size| *size as f64).collect());
    known([
        ("writes", Some(rounded(writes as f64 / orders))),
        ("statements", Some(sizes.len() as f64 / orders)),
        ("writes_per_statement", spread.map(|it| it.median)),
    ])
}

/// A subscription that takes everything at once.
struct Discard;

impl Sink for Discard {
    fn deliver<'a>(&'a self, _: Delivered<'a>) -> BoxFuture<'a, Result<(), Undelivered>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_told_per_order_and_by_their_median() {
        let figures = batches(&[1, 2, 9], 2.0);
        assert_eq!(figures.get("writes"), Some(&6.0));
        assert_eq!(figures.get("statements"), Some(&1.5));
        assert_eq!(figures.get("writes_per_statement"), Some(&2.0));
        assert_eq!(batches(&[], 1.0).get("writes_per_statement"), None);
    }
}
