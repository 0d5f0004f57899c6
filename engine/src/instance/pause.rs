//! Waiting: in memory as long as that is short or another branch is at work, else without it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Flushed, Instance, Verdict};

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
        let worker = &self.worker;
        let (read, deadline) = {
            let state = self.state();
            (state.mail_read, state.deadline.filter(|_| self.branches.calls() > 0))
        };
        let until = [until, deadline].into_iter().flatten().min();
        let left = until.map(|until| until - worker.clock.now());
        if left.is_some_and(|left| left <= TimeDelta::zero()) {
            return Ok(());
        }
        let linger = TimeDelta::from_std(worker.settings.linger).unwrap_or_default();
        let is_long = left.is_none_or(|left| left > linger);
        let calls = self.branches.calls();
        if is_long && calls == 0 {
            return Err(Verdict::Wait(until));
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
        let _waiting = is_long.then(|| self.branches.wait(until));
        let time = async {
            match until {
                Some(until) => worker.clock.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = time => Ok(()),
            () = worker.drain.cancelled() => Err(Verdict::Release),
            () = rung => self.read_mail_if_any().await,
        }
    }
}
