//! What can only be seen while it goes on: what the servers say of themselves in their metrics,
//! summed over all that have ever run, sessions that linger in a transaction, and leases that are
//! over while nobody takes over what they hold.
//!
//! What a server counted just before it was killed is missed: the sums are lower bounds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use crate::proxy::Proxy;
use crate::scene::Scene;
use crate::serve::OPERATOR_TOKEN;
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
/// Whether there is a server that could take over.
const ALIVE: &str = "select exists (select from amends.worker
    where lease_until >= now() and draining_since is null)";

/// What is due or has mail, while nobody holds it. What is suspected of killing its workers waits
/// until they have lived for a while.
const UNHELD: &str = "select i.instance_id, i.claim_id,
            business_key || ' (' || status || '), due since ' || coalesce(run_at::text, 'never')
    from amends.instance i
    where worker_id is null and losses < 2
      and (run_at < now()
           or exists (select from amends.mail m
                      where m.instance_id = i.instance_id and m.mail_seq = i.mail_read + 1))";
/// For how long something may be so.
const UNHELD_MAX: Duration = Duration::from_secs(60);

/// An instance since its last claim.
type Unheld = (Uuid, Option<Uuid>);

/// What was seen.
#[derive(Default)]
pub(crate) struct Watch {
    /// The metrics of every server, as they were last.
    counters: Mutex<BTreeMap<(usize, String), Counter>>,
    lingering: Mutex<BTreeSet<String>>,
    /// Since when nobody holds what is due or has mail.
    unheld: Mutex<HashMap<Unheld, Instant>>,
    unseen: Mutex<BTreeSet<String>>,
    /// For how long each server's lease was over at most while another server could have taken over,
    /// in seconds. A server that is taken over between two looks is none of them.
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
        let unheld_max = UNHELD_MAX * scene.pace.0;
        tokio::spawn(Arc::clone(&watch).look_at_database(
            scene.options(),
            scene.database_proxy.clone(),
            unheld_max,
        ));
        Ok(watch)
    }

    async fn look_at_servers(self: Arc<Self>, client: Client, urls: Vec<String>) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (server, url) in urls.iter().enumerate() {
                // A server that does not answer is looked at the next time.
                let look = client.get(url).bearer_auth(OPERATOR_TOKEN);
                let Ok(answer) = look.send().await else { continue };
                self.see(server, &answer.text().await.unwrap_or_default());
            }
        }
    }

    async fn look_at_database(
        self: Arc<Self>,
        database: PgConnectOptions,
        network: Proxy,
        unheld_max: Duration,
    ) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A database that is killed is looked at again when it is back.
            let Ok(mut session) = database.connect().await else { continue };
            let mut able_since = None;
            loop {
                ticks.tick().await;
                let asked = sqlx::query_scalar(LINGERING).fetch_all(&mut session).await;
                let Ok(found): sqlx::Result<Vec<String>> = asked else { break };
                self.lingering.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                let asked = sqlx::query_as(UNHELD).fetch_all(&mut session).await;
                let Ok(found): sqlx::Result<Vec<(Uuid, Option<Uuid>, String)>> = asked else {
                    break;
                };
                self.wait(found, Instant::now(), unheld_max);
                let asked = sqlx::query_as(LAPSED).fetch_all(&mut session).await;
                let Ok(found): sqlx::Result<Vec<(String, f64)>> = asked else { break };
                let asked = sqlx::query_scalar(ALIVE).fetch_one(&mut session).await;
                let Ok(is_alive): sqlx::Result<bool> = asked else { break };
                let is_able = is_alive && !network.is_down();
                able_since = is_able.then(|| able_since.unwrap_or_else(Instant::now));
                self.lapse(found, able_since);
            }
        }
    }

    /// Notes for how long leases have been over while somebody could have taken over.
    fn lapse(&self, over: Vec<(String, f64)>, able_since: Option<Instant>) {
        let able = able_since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        let mut lapsed = self.lapsed.lock().unwrap_or_else(PoisonError::into_inner);
        for (worker, seconds) in over {
            let longest = lapsed.entry(worker).or_default();
            *longest = longest.max(seconds.min(able));
        }
    }

    /// Notes what nobody holds, and which of it waits for too long.
    fn wait(&self, found: Vec<(Uuid, Option<Uuid>, String)>, now: Instant, unheld_max: Duration) {
        let mut unheld = self.unheld.lock().unwrap_or_else(PoisonError::into_inner);
        let mut still = HashMap::new();
        for (instance, claim, waits) in found {
            let since = *unheld.get(&(instance, claim)).unwrap_or(&now);
            still.insert((instance, claim), since);
            if now - since > unheld_max {
                self.unseen.lock().unwrap_or_else(PoisonError::into_inner).insert(waits);
            }
        }
        *unheld = still;
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
    fn a_lapse_counts_only_while_somebody_could_take_over() {
        let watch = Watch::default();
        let over = |seconds| vec![("dead".to_owned(), seconds)];
        watch.lapse(over(9.0), None);
        assert_eq!(watch.lapsed_p99(), 0.0);
        let since = Instant::now().checked_sub(Duration::from_secs(5));
        watch.lapse(over(14.0), since);
        let longest = watch.lapsed_p99();
        assert!((5.0..6.0).contains(&longest), "{longest}");
        watch.lapse(over(3.0), since);
        assert_eq!(watch.lapsed_p99(), longest, "the longest one counts");
    }

    #[test]
    fn what_waits_for_long_is_unseen_unless_somebody_has_claimed_it_meanwhile() {
        let (watch, begun, minute) = (Watch::default(), Instant::now(), Duration::from_secs(60));
        let look = |claim: u128, seconds| {
            let found = vec![(Uuid::nil(), Some(Uuid::from_u128(claim)), "it".to_owned())];
            watch.wait(found, begun + Duration::from_secs(seconds), minute);
            watch.unseen().len()
        };
        assert_eq!([look(1, 0), look(1, 60), look(2, 61), look(2, 121)], [0; 4]);
        watch.wait(Vec::new(), begun + 2 * minute, minute);
        assert_eq!([look(2, 122), look(2, 182), look(2, 183)], [0, 0, 1]);
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
