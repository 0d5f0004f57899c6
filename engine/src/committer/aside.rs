//! Writes that would keep others waiting: somebody else has locked their rows, or the database does
//! not take them and nobody knows why. They are sent one by one, on a connection of their own, until
//! they go in. One that never does is answered as refused, provided that others go in meanwhile:
//! else it is the database that takes nothing, and what has happened waits for it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

use super::line::Line;
use super::{Desk, Lines, Submission};
use crate::error::{is_data_error, is_lock_timeout, is_transient};
use crate::limits;
use crate::store::Purpose;
use crate::store::write::Written;

/// How long they rest after each has had its turn.
const PAUSE: Duration = Duration::from_millis(200);

/// A write that is set aside.
pub(super) struct Aside {
    submission: Submission,
    cause: Cause,
    since: DateTime<Utc>,
    /// How many statements had gone in by then.
    commits: u64,
}

/// Why it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// A row that it needs is locked. That passes.
    Locked,
    /// The database does not take it. Nobody knows whether that passes.
    Unknown,
}

impl Aside {
    pub(super) fn new(submission: Submission, cause: Cause, desk: &Desk) -> Self {
        let commits = desk.metrics.commits.get();
        Self { submission, cause, since: desk.clock.now(), commits }
    }

    /// Whether it has been tried for long enough, while others have gone in.
    fn is_given_up(&self, desk: &Desk) -> bool {
        let waited = desk.clock.now() - self.since;
        let others_go_in = desk.metrics.commits.get() > self.commits;
        self.cause == Cause::Unknown
            && others_go_in
            && waited > TimeDelta::from_std(limits::SET_ASIDE_MAX).unwrap_or_default()
    }
}

/// Serves what is set aside, until the worker is lost.
pub(super) async fn serve_aside(lines: Lines, mut set_aside: mpsc::UnboundedReceiver<Aside>) {
    let desk = Arc::clone(&lines.desk);
    let mut line = Line::new(lines, Purpose::SetAside);
    let serve = async {
        let mut waiting = Vec::new();
        while set_aside.recv_many(&mut waiting, usize::MAX).await > 0 {
            while !waiting.is_empty() {
                desk.metrics.writes_set_aside.set(count(&waiting));
                for aside in std::mem::take(&mut waiting) {
                    waiting.extend(line.try_again(aside).await);
                }
                desk.clock.sleep(PAUSE).await;
                while let Ok(aside) = set_aside.try_recv() {
                    waiting.push(aside);
                }
            }
            desk.metrics.writes_set_aside.set(0);
        }
    };
    // Who waits for an answer sees its sender dropped, which means fenced.
    let _ = desk.lost.run_until_cancelled(serve).await;
}

fn count(waiting: &[Aside]) -> i64 {
    i64::try_from(waiting.len()).unwrap_or(i64::MAX)
}

impl Line {
    /// Sends a write that was set aside once more. It comes back if it is to be tried again.
    async fn try_again(&mut self, mut aside: Aside) -> Option<Aside> {
        let error = match self
            .attempt(std::slice::from_ref(&aside.submission), limits::STATEMENT_TIMEOUT)
            .await
        {
            Ok(committed) => {
                self.answer(vec![aside.submission], &committed).await;
                return None;
            }
            Err(error) => error,
        };
        let is_known_to_pass = is_lock_timeout(&error) || is_transient(&error);
        aside.cause = if is_known_to_pass { Cause::Locked } else { Cause::Unknown };
        if is_data_error(&error) || aside.is_given_up(self.desk()) {
            tracing::error!(
                %error,
                instance.id = %aside.submission.write.instance_id,
                "a write is given up: the database takes others, but not this one",
            );
            let _ = aside.submission.answer.send(Written::Refused(error.to_string()));
            return None;
        }
        Some(aside)
    }
}
