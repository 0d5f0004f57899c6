//! What the servers say of themselves in their metrics, summed over all that have ever run.
//!
//! What a server counted just before it was killed is missed: the sums are lower bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use tokio::time::{MissedTickBehavior, interval};

use crate::server::Server;

const LOOK: Duration = Duration::from_millis(400);

/// The metrics of every server, as they were last seen.
pub(crate) struct Watch {
    counters: Mutex<BTreeMap<(usize, String), Counter>>,
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
    /// Begins to look at the servers, until the program ends.
    pub(crate) fn begin(servers: &[Server]) -> anyhow::Result<Arc<Self>> {
        let client = Client::builder().timeout(LOOK).no_proxy().build()?;
        let urls: Vec<_> = servers.iter().map(|it| format!("{}/metrics", it.url())).collect();
        let watch = Arc::new(Self { counters: Mutex::default() });
        let looking = Arc::clone(&watch);
        tokio::spawn(async move {
            let mut ticks = interval(LOOK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                for (server, url) in urls.iter().enumerate() {
                    // A server that does not answer is looked at the next time.
                    let Ok(answer) = client.get(url).send().await else { continue };
                    looking.see(server, &answer.text().await.unwrap_or_default());
                }
            }
        });
        Ok(watch)
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
    fn a_counter_goes_on_where_the_process_before_was_killed() {
        let watch = Watch { counters: Mutex::default() };
        for (server, value) in [(0, 3), (0, 5), (0, 2), (1, 4)] {
            watch.see(server, &format!("# HELP x\namends_commits_total {value}\n"));
        }
        assert_eq!(watch.sum("amends_commits"), 5 + 2 + 4);
    }
}
