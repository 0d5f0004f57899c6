//! Whether this process does its work, and whether it takes more in.

use chrono::TimeDelta;

use super::Engine;
use crate::clock_offset::ClockOffset;
use crate::error::Error;
use crate::store::identity;

/// How long an answer of the database is as good as another one.
const ASK_PAUSE: TimeDelta = TimeDelta::seconds(1);

impl Engine {
    /// How far this machine's clock is from the database's, by the last renewal of the lease; `None`
    /// before the first one.
    #[must_use]
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        self.0.parts.metrics.clock_offset.last()
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
