//! How the engine behaves in one process.

use std::time::Duration;

use crate::loss::OnLostCommits;
use crate::trust::Durability;

/// How the engine behaves in this process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What this process is called in the list of workers, for people.
    pub name: String,
    /// How many instances may be in memory at once (default 10,000).
    pub instances_max: usize,
    /// A worker that has not renewed its lease for this long is taken over (default 30 s).
    pub lease: Duration,
    /// Waits up to this long are spent in memory; longer ones release the instance (default 2 s).
    pub linger: Duration,
    /// How often to look for what no hint announced (default 500 ms).
    pub poll: Duration,
    /// How often a receiver may refuse an event although it takes others, until the event's key
    /// waits for a person (default 12, at least 1). Attempts are a second to five minutes apart.
    pub refusals_max: u32,
    /// What becomes of orders once the database has lost commits (default: none are taken in).
    pub on_lost_commits: OnLostCommits,
    /// On how many machines a commit has to be (default: on the server's own disk).
    pub durability: Durability,
    /// How long a process stays ready while commits are not on as many machines (default 60 s).
    pub not_replicated_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: format!("pid {}", std::process::id()),
            instances_max: 10_000,
            lease: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            poll: Duration::from_millis(500),
            refusals_max: 12,
            on_lost_commits: OnLostCommits::Stop,
            durability: Durability::Local,
            not_replicated_grace: Duration::from_secs(60),
        }
    }
}
