//! What can only be seen while it goes on: what the servers say of themselves in their metrics,
//! summed over all that have ever run, sessions that linger in a transaction, and leases that are
//! over while nobody takes over what they hold.
//!
//! What a server counted just before it was killed is missed: the sums are lower bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{MissedTickBehavior, interval};

use crate::scene::Scene;
use crate::server::Server;

const LOOK: Duration = Duration::from_millis(400);
/// Sessions that are idle in a transaction, longer than the engine lets the server bear it.
const LINGERING: &str =
    "select 'session ' || pid || ' since ' || state_change || ' after ' || query
    from pg_stat_activity
    where state like 'idle in transaction%' and state_change < now() - interval '6 seconds'";
/// For how many seconds the lease of which server has been over.
const LAPSED: &str = "select worker_id::text, extract(epoch from now() - lease_until)::float8
    from amends.worker where lease_until < now()";

/// What has been due for longer than so many seconds, or has had mail for so long, while nobody holds
/// it. What is suspected of killing its workers waits until they have lived for a while.
const UNSEEN: &str =
    "select business_key || ' (' || status || '), due since ' || coalesce(run_at::text, 'never')
    from amends.instance i
    where worker_id is null and losses < 2
      and (run_at < now() - make_interval(secs => $1)
           or exists (select from amends.mail m
                      where m.instance_id = i.instance_id and m.mail_seq = i.mail_read + 1
                        and m.sent_at < now() - make_interval(secs => $1)))";
/// For how long something may be so.
const UNSEEN_SECONDS: u32 = 60;

/// What was seen.
#[derive(Default)]
pub(crate) struct Watch {
    /// The metrics of every server, as they were last.
    counters: Mutex<BTreeMap<(usize, String), Counter>>,
    lingering: Mutex<BTreeSet<String>>,
    unseen: Mutex<BTreeSet<String>>,
    /// How long each server's lease had been over when it was last seen, in seconds. A server that
    /// is taken over between two looks is none of them.
    lapsed: Mutex<BTreeMap<String, f64>>,
}

/// A counter of whichever process runs in a place.
#[derive(Debug, Default, Clone, Copy)]
struct Counter {
    /// Of the processes before.
    before: u64,
    now: u64,
}

impl Counter {
    /// A counter that has fallen belongs to another process.
    fn see(&mut self, value: u64) {
        if value < self.now {
            self.before += self.now;
        }
        self.now = value;
    }
}

impl Watch {
    /// Begins to look at the servers and their sessions, until the program ends.
    pub(crate) fn begin(scene: &Scene) -> anyhow::Result<Arc<Self>> {
        let client = Client::builder().timeout(LOOK).no_proxy().build()?;
        let metrics = |server: &Server| format!("{}/metrics", server.url());
        let urls: Vec<_> = scene.servers.iter().map(metrics).collect();
        let watch = Arc::new(Self::default());
        tokio::spawn(Arc::clone(&watch).look_at_servers(client, urls));
        let unseen_seconds = UNSEEN_SECONDS * scene.pace.0;
        tokio::spawn(Arc::clone(&watch).look_at_database(scene.options(), unseen_seconds));
        Ok(watch)
    }

    async fn look_at_servers(self: Arc<Self>, client: Client, urls: Vec<String>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (server, url) in urls.iter().enumerate() {
                // A server that does not answer is looked at the next time.
                let Ok(answer) = client.get(url).send().await else { continue };
                self.see(server, &answer.text().await.unwrap_or_default());
            }
        }
    }

    async fn look_at_database(self: Arc<Self>, database: PgConnectOptions, unseen_seconds: u32) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A database that is killed is looked at again when it is back.
            let Ok(mut session) = database.connect().await else { continue };
            loop {
                ticks.tick().await;
                let asked = sqlx::query_scalar(LINGERING).fetch_all(&mut session).await;
                let Ok(found): sqlx::Result<Vec<String>> = asked else { break };
                self.lingering.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                let unseen = sqlx::query_scalar(UNSEEN).bind(f64::from(unseen_seconds));
                let Ok(found): sqlx::Result<Vec<String>> = unseen.fetch_all(&mut session).await
                else {
                    break;
                };
                self.unseen.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                let asked = sqlx::query_as(LAPSED).fetch_all(&mut session).await;
                let Ok(found): sqlx::Result<Vec<(String, f64)>> = asked else { break };
                self.lapsed.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
            }
        }
    }

    /// The sessions that stayed in a transaction for too long.
    pub(crate) fn lingering(&self) -> Vec<String> {
        let lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.iter().cloned().collect()
    }

    /// What nobody looked at for too long.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.iter().cloned().collect()
    }

    /// How long the leases of all but one in a hundred had been over at most, in seconds, before
    /// what they held was taken over.
    pub(crate) fn lapsed_p99(&self) -> f64 {
        let lapsed = self.lapsed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seconds: Vec<f64> = lapsed.values().copied().collect();
        seconds.sort_by(f64::total_cmp);
        let outliers = seconds.len() / 100;
        seconds.iter().rev().nth(outliers).copied().unwrap_or_default()
    }

    /// The sum of a counter over all servers.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let named = counters.iter().filter(|((_, it), _)| it == name);
        named.map(|(_, counter)| counter.before + counter.now).sum()
    }

    fn see(&self, server: usize, metrics: &str) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for line in metrics.lines() {
            if let Some((name, value)) = line.split_once("_total ")
                && let Ok(value) = value.parse()
            {
                counters.entry((server, name.to_owned())).or_default().see(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_may_take_longer() {
        let watch = Watch::default();
        let p99_of = |servers: u8| {
            let seen = (1..=servers).map(|server| (server.to_string(), f64::from(server)));
            watch.lapsed.lock().unwrap().extend(seen);
            watch.lapsed_p99()
        };
        assert_eq!([p99_of(0), p99_of(1), p99_of(99), p99_of(100)], [0.0, 1.0, 99.0, 99.0]);
    }

    #[test]
    fn a_counter_goes_on_where_the_process_before_was_killed() {
        let watch = Watch::default();
        for (server, value) in [(0, 3), (0, 5), (0, 2), (1, 4)] {
            watch.see(server, &format!("# HELP x\namends_commits_total {value}\n"));
        }
        assert_eq!(watch.sum("amends_commits"), 5 + 2 + 4);
    }
}
