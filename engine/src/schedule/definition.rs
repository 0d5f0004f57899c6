//! The schedules that this build defines, checked when the engine opens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::timetable::Timetable;
use super::{Firing, Gap, PrioritizedSchedule, Schedule};
use crate::limits::{CATCH_UP_MAX, SCHEDULE_NAME_BYTES_MAX};
use crate::priority::Priority;
use crate::registry::Registry;
use crate::step::Failure;
use crate::workflow::Workflow;

type MakeInput = dyn Fn(&Firing) -> Result<String, serde_json::Error> + Send + Sync;

/// A schedule, ready to be followed.
#[derive(Clone)]
pub(crate) struct Definition {
    pub(crate) schedule: Schedule,
    pub(crate) priority: Priority,
    pub(crate) workflow: &'static str,
    pub(crate) timetable: Timetable,
    input: Arc<MakeInput>,
}

impl Definition {
    /// Everything that is defined, as one text. A process fires only what the database knows by
    /// the same text, so that an older build leaves alone what a newer one has changed. What is as
    /// usual is not in it, so that a release that cannot say it has the same text.
    pub(crate) fn text(&self) -> String {
        let Schedule { name, cron, zone, gap, overlap } = self.schedule;
        let text =
            format!("{name}: {cron}, {zone}, {}, gap {gap}, overlap {overlap}", self.workflow);
        match self.priority {
            Priority::High => text + ", priority high",
            Priority::Normal => text,
            Priority::Low => text + ", priority low",
        }
    }

    /// The input of a firing's instance.
    pub(crate) fn input(&self, firing: &Firing) -> Result<String, Failure> {
        let refused = |why: String| Failure::new("INPUT_REFUSED", why);
        match catch_unwind(AssertUnwindSafe(|| (self.input)(firing))) {
            Ok(made) => made.map_err(|error| refused(error.to_string())),
            Err(_) => Err(refused("the function that makes the input has panicked".to_owned())),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(schedule: Schedule) -> Self {
        Self {
            timetable: Timetable::parse(schedule.cron, schedule.zone).unwrap(),
            schedule,
            priority: Priority::Normal,
            workflow: "w",
            input: Arc::new(|_| Ok("null".to_owned())),
        }
    }
}

/// Every schedule of this build.
#[derive(Clone, Default)]
pub(crate) struct Definitions {
    definitions: Vec<Definition>,
    mistakes: Vec<String>,
}

impl Definitions {
    /// Adds a schedule; mistakes are gathered for [`Definitions::mistakes`].
    pub(crate) fn add<W: Workflow>(
        &mut self,
        PrioritizedSchedule { schedule, priority }: PrioritizedSchedule,
        input: impl Fn(&Firing) -> W::Input + Send + Sync + 'static,
    ) {
        self.mistakes.extend(mistakes(schedule));
        match Timetable::parse(schedule.cron, schedule.zone) {
            Ok(timetable) => self.definitions.push(Definition {
                schedule,
                priority,
                workflow: W::NAME,
                timetable,
                input: Arc::new(move |firing| serde_json::to_string(&input(firing))),
            }),
            Err(why) => self.mistakes.push(format!("schedule {:?}: {why}", schedule.name)),
        }
    }

    /// Everything that is wrong with the schedules.
    pub(crate) fn mistakes(&self, registry: &Registry) -> Vec<String> {
        let mut mistakes = self.mistakes.clone();
        for (index, Definition { schedule, workflow, .. }) in self.definitions.iter().enumerate() {
            let name = schedule.name;
            if registry.newest(workflow).is_none() {
                mistakes
                    .push(format!("schedule {name:?} starts {workflow}, which is not registered"));
            }
            if self.definitions[..index].iter().any(|other| other.schedule.name == name) {
                mistakes.push(format!("schedule {name:?} is defined twice"));
            }
        }
        mistakes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.definitions.iter()
    }

    /// The texts of all definitions.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.definitions.iter().map(Definition::text).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Definition> {
        self.definitions.iter().find(|definition| definition.schedule.name == name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.definitions.is_empty()
    }
}

/// What is wrong with a schedule, beside its timetable.
fn mistakes(schedule: Schedule) -> Vec<String> {
    let name = schedule.name;
    let mut mistakes = Vec::new();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > SCHEDULE_NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        mistakes.push(format!("{name:?} is no name for a schedule"));
    }
    if let Gap::All { max } = schedule.gap
        && !(1..=CATCH_UP_MAX).contains(&max)
    {
        mistakes.push(format!(
            "schedule {name:?} would catch up {max} firings; it has to be 1 to {CATCH_UP_MAX}"
        ));
    }
    mistakes
}
