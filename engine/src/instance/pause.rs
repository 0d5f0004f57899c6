//! Waiting: in memory as long as that is short or another branch is at work, else without it.

use std::sync::Arc;
use std::task::Poll;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Flushed, Instance, State, Verdict, Wait};
use crate::dependency::Pass;

impl Instance {
    /// Waits until `until`; without one, until there is mail.
    ///
    /// Mail ends the wait early: a person may have said to go on now, or not to go on at all, and
    /// a signal may be what is waited for. The instance's deadline ends it, too. Whatever ended it,
    /// the history has to be looked at again.
    pub(crate) async fn pause_until(
        self: &Arc<Self>,
        until: Option<DateTime<Utc>>,
    ) -> Result<(), Verdict> {
        self.pause(Wait::until(until)).await
    }

    /// The right to call what a step goes through. `None`: it has been waited for, and the history
    /// has to be looked at again.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        dependency: Option<&'static str>,
    ) -> Result<Option<Pass>, Verdict> {
        let Some(name) = dependency else {
            return Ok(Some(Pass::free()));
        };
        match self.worker.persist(|| self.worker.enter(name)).await? {
            Some(pass) => Ok(Some(pass)),
            None => {
                self.state().was_parked = true;
                let paused = self.pause(Wait::parked_on(name)).await;
                // Another branch may have recorded something meanwhile.
                self.state().was_parked = true;
                paused.map(|()| None)
            }
        }
    }

    /// Whether the run may hear what record `seq` says; see [`crate::instance::Branches`].
    pub(crate) fn is_turn(&self, state: &State, seq: u32) -> bool {
        self.branches.is_turn(seq, state.history.unasked_from())
    }

    /// Waits until the run may hear what record `seq` says.
    pub(crate) async fn turn(&self, seq: u32) {
        let queued = self.branches.queue(seq);
        std::future::poll_fn(|context| {
            queued.register(context.waker());
            if self.is_turn(&self.state(), seq) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether a lost worker may have left attempts of which nothing is recorded.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.state().history.is_interrupted() && !self.worker.lost.is_cancelled()
    }

    /// Keeps a call that has been halted from ending the run while there is doubt: its other
    /// branches have not all said what they may have had under way. Once every call waits, the run
    /// is dropped.
    pub(crate) async fn let_the_others_speak(&self) {
        if self.is_in_doubt() {
            let _waiting = self.branches.wait(Wait::default());
            std::future::pending::<()>().await;
        }
    }

    /// What the run waits for, and no longer than its deadline allows. While it is parked, that does
    /// not run.
    pub(crate) fn within_deadline(&self, wait: Wait) -> Wait {
        let deadline = self.state().deadline().filter(|_| wait.parked_on.is_none());
        Wait { until: [wait.until, deadline].into_iter().flatten().min(), ..wait }
    }

    async fn pause(self: &Arc<Self>, wait: Wait) -> Result<(), Verdict> {
        let worker = &self.worker;
        let (read, is_limited) = {
            let state = self.state();
            (state.mail_read, self.branches.calls() > 0 && !state.was_parked)
        };
        let wait = if is_limited { self.within_deadline(wait) } else { wait };
        let left = wait.until.map(|until| until - worker.clock.now());
        if left.is_some_and(|left| left <= TimeDelta::zero()) {
            return Ok(());
        }
        let linger = TimeDelta::from_std(worker.settings.linger).unwrap_or_default();
        let is_long = left.is_none_or(|left| left > linger);
        let calls = self.branches.calls();
        if is_long && calls == 0 {
            return Err(Verdict::Wait(wait));
        }
        let mut rung = std::pin::pin!(self.bell.notified());
        rung.as_mut().enable();
        // The only call of a run is about to let go of the instance, which writes everything.
        if !(is_long && calls == 1) {
            match self.flush().await {
                Flushed::Yes => {}
                Flushed::MailRead => return Ok(()),
                Flushed::Refused(verdict) => return Err(verdict),
            }
        }
        self.read_mail_if_any().await?;
        if self.state().mail_read != read {
            return Ok(());
        }
        let _waiting = is_long.then(|| self.branches.wait(wait));
        let opened = async {
            match wait.parked_on.and_then(|name| worker.dependencies.get(name)) {
                Some(gate) => gate.wait().await,
                None => std::future::pending().await,
            }
        };
        let time = async {
            match wait.until {
                Some(until) => worker.clock.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => Ok(()),
            () = opened => Ok(()),
            () = worker.drain.cancelled() => Err(Verdict::Release),
            () = rung => self.read_mail_if_any().await,
        }
    }
}
