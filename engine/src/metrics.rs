//! What the engine counts and times, for OpenMetrics.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::clock_offset::OffsetWatch;

const BUCKETS_SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How long a statement took until it was answered.
#[derive(Debug)]
pub(crate) struct Seconds(Histogram);

impl Default for Seconds {
    fn default() -> Self {
        Self(Histogram::new(BUCKETS_SECONDS))
    }
}

impl Seconds {
    /// Times whatever is awaited; what is dropped on the way counts for nothing.
    pub(crate) async fn time<T>(&self, timed: impl Future<Output = T>) -> T {
        let began = now();
        let answer = timed.await;
        self.0.observe(began.elapsed().as_secs_f64());
        answer
    }
}

#[expect(clippy::disallowed_methods, reason = "what is measured is measured in real time")]
fn now() -> Instant {
    Instant::now()
}

type OfSubscription = [(&'static str, String); 1];

/// Counters of this process; clones share their values.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) commits: Counter,
    pub(crate) commits_resent: Counter,
    pub(crate) records: Counter,
    pub(crate) started: Counter,
    pub(crate) claimed: Counter,
    pub(crate) ended: Counter,
    pub(crate) stuck: Counter,
    pub(crate) attempts: Counter,
    pub(crate) attempts_failed: Counter,
    pub(crate) compensations: Counter,
    pub(crate) delivered: Counter,
    pub(crate) undelivered: Counter,
    pub(crate) keys_parked: Counter,
    pub(crate) firings_started: Counter,
    pub(crate) firings_skipped: Counter,
    pub(crate) workers_lost: Counter,
    pub(crate) workers_taken_over: Counter,
    pub(crate) workers_vanished: Counter,
    pub(crate) commits_lost: Counter,
    pub(crate) durability_copies: Gauge,
    pub(crate) instances_held: Gauge,
    pub(crate) suspects_on_trial: Gauge,
    pub(crate) events_left: Gauge,
    pub(crate) writes_set_aside: Gauge,
    pub(crate) clock_offset: OffsetWatch,
    deliveries_under_way: Family<OfSubscription, Gauge>,
    receiver_takes_nothing: Family<OfSubscription, Gauge>,
    pub(crate) claim: Seconds,
    pub(crate) commit: Seconds,
}

impl Metrics {
    /// Lost commits are counted where they are found.
    pub(crate) fn counting(commits_lost: Counter) -> Self {
        Self { commits_lost, ..Self::default() }
    }

    /// What a subscription's feed is like.
    pub(crate) fn show_feed(&self, subscription: &str, under_way: usize, is_open: bool) {
        let of = [("subscription", subscription.to_owned())];
        self.deliveries_under_way.get_or_create(&of).set(under_way as i64);
        self.receiver_takes_nothing.get_or_create(&of).set(i64::from(is_open));
    }

    fn register_feeds(&self, registry: &mut Registry) {
        for (name, help, family) in [
            (
                "deliveries_under_way",
                "Events that were sent to a receiver which has not answered yet",
                &self.deliveries_under_way,
            ),
            (
                "receiver_takes_nothing",
                "1 for a subscription whose receiver fails again and again and is asked little",
                &self.receiver_takes_nothing,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("amends");
        self.register_counters(registry);
        self.register_gauges(registry);
        self.register_feeds(registry);
        self.clock_offset.register(registry);
        for (name, help, Seconds(histogram)) in [
            ("claim", "Taking up due instances with their histories", &self.claim),
            ("commit", "Statements of the write path", &self.commit),
        ] {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
    }

    fn register_counters(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("commits", "Statements of the write path that were answered", &self.commits),
            ("commits_resent", "Statements of the write path sent again", &self.commits_resent),
            ("records", "History records written", &self.records),
            ("instances_started", "Instances accepted", &self.started),
            ("instances_claimed", "Instances taken up after waiting", &self.claimed),
            ("instances_ended", "Instances that reached a terminal status", &self.ended),
            ("instances_stuck", "Times an instance came to need a person", &self.stuck),
            ("attempts", "Attempts at steps and compensations", &self.attempts),
            ("attempts_failed", "Attempts that brought no result", &self.attempts_failed),
            ("compensations", "Steps compensated", &self.compensations),
            ("events_delivered", "Events delivered to subscriptions", &self.delivered),
            (
                "events_undelivered",
                "Deliveries that failed and will be repeated",
                &self.undelivered,
            ),
            ("keys_parked", "Keys whose event is refused again and again", &self.keys_parked),
            ("firings_started", "Firings that started an instance", &self.firings_started),
            (
                "firings_skipped",
                "Firings that met an instance that had not ended",
                &self.firings_skipped,
            ),
            ("workers_lost", "Times this process lost its lease", &self.workers_lost),
            ("workers_taken_over", "Dead workers this process took over", &self.workers_taken_over),
            (
                "workers_vanished",
                "Workers that were not there and held instances all the same",
                &self.workers_vanished,
            ),
            (
                "commits_lost",
                "Acknowledged commits that were found missing in the database",
                &self.commits_lost,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    fn register_gauges(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            ("instances_held", "Instances in this process's memory", &self.instances_held),
            (
                "suspects_on_trial",
                "Instances that this process runs to find out whether they kill their workers",
                &self.suspects_on_trial,
            ),
            (
                "writes_set_aside",
                "Writes that are tried by themselves: their rows are locked, or the database refuses them",
                &self.writes_set_aside,
            ),
            (
                "durability_copies",
                "On how many machines a commit is when it is acknowledged; 0: none is acknowledged",
                &self.durability_copies,
            ),
            (
                "events_left",
                "Events that wait for subscriptions that no server has",
                &self.events_left,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }
}
