//! How much slower than usual this machine is, and what has to take longer for it.
//!
//! Leases and quiet periods are short, so that a run need not wait for them. On a machine that is
//! busy with other things they would be over before anybody has had a chance to keep them.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::Instant;

/// A table to commit to.
pub(crate) const TABLE: &str = "create table chaos.pace (at timestamptz not null);";

/// So many commits are measured, and all but this many have to be quick.
const COMMITS: usize = 60;
const SLOW_COMMITS: usize = 3;
/// What a commit takes at most where nothing has to take longer.
const COMMIT: Duration = Duration::from_millis(40);
const PACE_MAX: u32 = 4;

/// A factor of times: 1 on a machine that is as quick as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace(pub(crate) u32);

impl Pace {
    /// Measures how long commits take at this moment.
    pub(crate) async fn measure(database: &mut PgConnection) -> sqlx::Result<Self> {
        let mut took = Vec::new();
        for _ in 0..COMMITS {
            let begin = Instant::now();
            let commit = sqlx::query("insert into chaos.pace values (clock_timestamp())");
            commit.execute(&mut *database).await?;
            took.push(begin.elapsed());
        }
        took.sort();
        Ok(Self::of(took[COMMITS - 1 - SLOW_COMMITS]))
    }

    fn of(commit: Duration) -> Self {
        let slower = commit.as_millis().div_ceil(COMMIT.as_millis());
        Self(u32::try_from(slower).unwrap_or(PACE_MAX).clamp(1, PACE_MAX))
    }

    /// How long a silent server keeps what it holds.
    pub(crate) fn lease(self) -> Duration {
        Duration::from_secs(4) * self.0
    }

    /// After this the list of charges shows what was charged: longer than a late application and
    /// the lag of the list take together.
    pub(crate) fn quiet(self) -> Duration {
        Duration::from_secs(3) * self.0
    }

    /// After this nothing is applied any more that a provider was asked for: a server that stood
    /// still may have had it in its hands.
    pub(crate) fn settles(self) -> Duration {
        self.lease() * 3
    }

    /// How long everything may take to end once it is healed. A minute of it is what a payment may
    /// take until it is certain that it was not made.
    pub(crate) fn liveness(self) -> Duration {
        Duration::from_secs(120) * self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_grow_with_the_slowness_of_the_machine_and_no_further_than_fourfold() {
        let pace = |milliseconds| Pace::of(Duration::from_millis(milliseconds)).0;
        assert_eq!([3, 40, 41, 100, 5_000].map(pace), [1, 1, 2, 3, 4]);
    }
}
