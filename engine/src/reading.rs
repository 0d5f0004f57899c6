//! What a message becomes in the history of its instance.
//!
//! Pure. Whoever accepts a message asks the same: what is accepted can be recorded.

use serde_json::value::RawValue;

use crate::command::{Command, Finding, Resolution};
use crate::event::Event;
use crate::history::{History, Progress};
use crate::limits::refuse_payload;
use crate::record::{ChildEnded, CommandRead, Entry, SignalRead};
use crate::registry::{Steps, Told};
use crate::step::Undone;

/// What a message becomes.
#[derive(Debug)]
pub(crate) struct Reading {
    /// What it is about, as the history calls it.
    pub(crate) step: Option<String>,
    pub(crate) entry: Entry,
    pub(crate) events: Vec<Event>,
}

impl Reading {
    /// A signal, as its sender knows it.
    pub(crate) fn signal(signal: String, id: Option<String>, body: Box<RawValue>) -> Self {
        Self {
            step: None,
            entry: Entry::Signal(SignalRead { signal, id, body, parked: false }),
            events: Vec::new(),
        }
    }

    /// The end of a child.
    pub(crate) fn child_ended(key: String, ended: ChildEnded) -> Self {
        Self { step: Some(key), entry: Entry::ChildEnded(ended), events: Vec::new() }
    }

    /// A command, upon a history of a workflow with these steps.
    pub(crate) fn command(
        command: Command,
        reason: String,
        resolution: Option<Resolution>,
        (history, steps): (&History, &Steps),
    ) -> Self {
        let found = resolution.as_ref();
        let Told { events, money } =
            found.map_or_else(Told::default, |it| tell(it, history, steps));
        let step = found.and_then(|resolution| resolution.step.clone());
        let new_keys = matches!(command, Command::Resume | Command::Resolve)
            .then(|| history.keys_to_give_up(found));
        let read = CommandRead { command, reason, resolution, new_keys, money, parked: false };
        Self { step, entry: Entry::Command(read), events }
    }

    /// Why it cannot be recorded, if it cannot.
    pub(crate) fn refuse(mut self) -> Option<String> {
        // Whether it will say so is not known before it is read.
        self.entry.mark_parked();
        self.entry.payload().map_or_else(|error| Some(error.to_string()), |it| refuse_payload(&it))
    }
}

/// What a step has to say about what a person found out, and the money that person knows of.
fn tell(resolution: &Resolution, history: &History, steps: &Steps) -> Told {
    let step = resolution.step.as_deref().and_then(|key| history.step(key));
    let known = step.and_then(|step| Some((step, steps.get(step.name())?)));
    let told = match (known, &resolution.finding) {
        (Some((step, known)), Some(Finding::Applied(output))) => {
            known.done(step.input.get(), &output.to_string())
        }
        (Some((step, known)), Some(Finding::Undone(reference))) => {
            let output = match &step.progress {
                Progress::Done { output } => Some(output.get()),
                Progress::Open | Progress::Failed { .. } => None,
            };
            let (reference, before) = (reference.clone(), history.ledger().clone());
            let undone = Undone { applied: true, reference, moved: None, before };
            known.undone(step.input.get(), output, &undone)
        }
        _ => Ok(Told::default()),
    };
    // What it says was read when the command was accepted; a build that cannot read it any more has
    // nothing to add.
    let mut told = told.unwrap_or_default();
    told.money.extend_from_slice(&resolution.money);
    told
}
