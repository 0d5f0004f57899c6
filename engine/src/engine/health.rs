//! Whether this process does its work, and whether it takes more in.

use std::time::Duration;

use chrono::TimeDelta;

use super::Engine;
use crate::clock_offset::ClockOffset;
use crate::doctor::{self, Finding};
use crate::error::Error;
use crate::store::identity;

/// How long an answer of the database is as good as another one.
const ASK_PAUSE: TimeDelta = TimeDelta::seconds(1);

/// How long an examination waits for each of its two parts. Who asks for it hears of it all the same.
const EXAMINED_WITHIN: Duration = Duration::from_secs(10);

impl Engine {
    /// How far this machine's clock is from the database's, by the last renewal of the lease; `None`
    /// before the first one.
    #[must_use]
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        self.0.parts.metrics.clock_offset.last()
    }

    /// What [`crate::doctor::examine`] finds, as this server sees it, after what it says of itself. One
    /// examination at a time: each opens sessions of its own.
    pub async fn examine(&self) -> Vec<Finding> {
        let whose = "the server's";
        let clock = &self.parts().clock;
        let no_answer = || Error::Stalled("the database does not answer".to_owned());
        let ready =
            clock.within(EXAMINED_WITHIN, self.ready()).await.unwrap_or_else(|| Err(no_answer()));
        let mut findings = vec![doctor::server(ready)];
        let look = async {
            let _one = self.0.examining.lock().await;
            doctor::look(self.store(), whose).await
        };
        match clock.within(EXAMINED_WITHIN, look).await.unwrap_or_else(|| Err(no_answer())) {
            Ok(found) => findings.extend(found),
            Err(error) => {
                tracing::warn!(%error, "the database cannot be examined: {error}");
                findings.push(doctor::unanswered());
                findings.extend(self.clock_offset().map(|offset| doctor::clock(whose, offset)));
            }
        }
        findings
    }

    /// Whether this process does its work: the database answers and lets it write, has what it has
    /// acknowledged, on as many machines as was asked for, the lease is fresh, writes are answered,
    /// and no loop stands still.
    ///
    /// However many ask, the database is asked once a second.
    pub async fn ready(&self) -> Result<(), Error> {
        self.permit_intake()?;
        if self.store().is_another() {
            return Err(Error::Stalled("the database is another one; see the log".to_owned()));
        }
        let mut asked = self.0.asked.lock().await;
        let clock = &self.parts().clock;
        if asked.is_none_or(|asked| clock.now() - asked >= ASK_PAUSE) {
            *asked = None;
            // Every session that may be used has been found to be fit for writing.
            identity::answer(self.store().pool()).await?;
            *asked = Some(clock.now());
        }
        drop(asked);
        self.parts().trust.permit_ready(self.parts())?;
        self.worker().is_at_work()
    }

    /// Refuses what comes in from outside while lost commits are to be looked at by a person.
    pub(crate) fn permit_intake(&self) -> Result<(), Error> {
        self.parts().trust.permit_intake(self.parts())
    }
}
