//! Where people ask for schedules: look, pause, resume, trigger, backfill.

use super::{Backfill, ScheduleAnswer, ScheduleCommand, ScheduleDetail, ScheduleView};
use crate::engine::Engine;
use crate::error::Error;
use crate::limits::refuse_person;
use crate::store::Purpose;
use crate::store::schedule::command::{Given, Intent, give_command};
use crate::store::schedule::read;
use crate::worker::new_id;

impl Engine {
    /// Every schedule that a build has ever defined, by name.
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>, Error> {
        let parts = self.parts();
        read::schedules(parts.store.reading(), None, parts.clock.pinned()).await
    }

    /// One schedule, with its latest firings and commands.
    pub async fn schedule(&self, name: &str) -> Result<Option<ScheduleDetail>, Error> {
        let parts = self.parts();
        let pool = parts.store.reading();
        let found = read::schedules(pool, Some(name), parts.clock.pinned()).await?.pop();
        let Some(schedule) = found else {
            return Ok(None);
        };
        let firings = read::firings(pool, name).await?;
        Ok(Some(ScheduleDetail { schedule, firings, commands: read::commands(pool, name).await? }))
    }

    /// Gives a command to a schedule on behalf of `actor`. `None`: there is no such schedule.
    ///
    /// The command and its answer are kept, refusals too. Safe to repeat: a minute fires once, so
    /// a backfill that is asked for again starts nothing twice, nor does a trigger in the same
    /// minute.
    pub async fn command_schedule(
        &self,
        name: &str,
        command: ScheduleCommand,
        actor: &str,
        reason: &str,
    ) -> Result<Option<ScheduleAnswer>, Error> {
        refuse_person(actor, reason).map_or(Ok(()), |why| Err(Error::InvalidInput(why)))?;
        self.give_schedule(name, command, (actor, reason), Intent::CarryOut).await
    }

    /// What a backfill would be answered. Nothing is changed, and nothing is kept.
    pub async fn preview_backfill(
        &self,
        name: &str,
        backfill: Backfill,
    ) -> Result<Option<ScheduleAnswer>, Error> {
        self.give_schedule(name, ScheduleCommand::Backfill(backfill), ("", ""), Intent::Try).await
    }

    async fn give_schedule(
        &self,
        schedule: &str,
        command: ScheduleCommand,
        (actor, reason): (&str, &str),
        intent: Intent,
    ) -> Result<Option<ScheduleAnswer>, Error> {
        let parts = self.parts();
        // A connection of its own ends with the transaction, however this future ends.
        let mut connection = parts.store.connect(Purpose::Alone).await?;
        let now = parts.clock.pinned();
        let given = Given { command_id: new_id(), schedule, command, actor, reason, now };
        give_command(&mut connection, given, intent).await
    }
}
