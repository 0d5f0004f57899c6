//! What a run asks of its instance besides steps, and what keeps it from asking. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use super::{State, Verdict, Wait};
use crate::history::{Note, Said, marker};
use crate::limits;
use crate::record::{Entry, Noted, Reason, ReasonKind, TimerStarted, WaitEnded, WaitStarted};
use crate::sabotage::Bug;
use crate::step::Failure;

/// How a sleep or a wait stands.
pub(crate) enum Paused<T> {
    Over(T),
    /// It is over, and the run hears of it when it is the turn of this record.
    OutOfTurn(u32),
    /// Until a time; without one, until a signal comes.
    Until(Option<DateTime<Utc>>),
}

impl State {
    /// The key of what the run asks for now: its name, and which time it is.
    pub(crate) fn occurrence(&mut self, name: String) -> String {
        let occurrence = self.occurrences.entry(name.clone()).or_insert(0);
        *occurrence += 1;
        if *occurrence == 1 { name } else { format!("{name}#{occurrence}") }
    }

    /// Why the run may begin nothing more, whatever it asks for.
    pub(crate) fn obstacle(&self, now: DateTime<Utc>) -> Option<Verdict> {
        let history = &self.history;
        if let Some(reason) = history.terminated() {
            return Some(Verdict::Terminate(reason.to_owned()));
        }
        // A cancel that was accepted stops the run before its next effect.
        if let Some(reason) = history.cancelled() {
            return Some(Verdict::Compensate(reason));
        }
        if history.is_held() {
            return Some(Verdict::Wait(Wait::default()));
        }
        if let Some(refusal) = self.refusal() {
            return Some(refusal);
        }
        if history.length() >= limits::HISTORY_RECORDS_MAX {
            let message = format!("the history has {} records", history.length());
            return Some(Verdict::Stick(Failure::new("HISTORY_TOO_LONG", message)));
        }
        let is_late = |deadline: &DateTime<Utc>| *deadline <= now;
        let late = self.deadline().filter(is_late)?;
        if self.past_pivot || self.was_parked {
            return None;
        }
        let message = format!("not completed by {}", late.format("%Y-%m-%dT%H:%M:%SZ"));
        let failure = Failure::new("DEADLINE_EXCEEDED", message);
        Some(Verdict::Compensate(Reason { kind: ReasonKind::Failure, failure }))
    }

    /// Whether the instance runs the code behind the change `name`: see [`crate::Saga::patched`].
    pub(crate) fn patched(&mut self, name: &str, now: DateTime<Utc>) -> Result<bool, Verdict> {
        let [yes, no] = [true, false].map(|answer| marker(name, answer));
        if self.history.ask_note(&yes).is_some() {
            return Ok(true);
        }
        if self.history.ask_note(&no).is_some() {
            return Ok(false);
        }
        let answer = self.history.unasked().is_none();
        if !answer && Bug::PatchUnrecorded.is_on() {
            return Ok(false);
        }
        let value = if answer { RawValue::TRUE } else { RawValue::FALSE };
        let noted = Entry::Noted(Noted { value: value.to_owned() });
        self.append(Some(&marker(name, answer)), None, noted, &[], None, now)?;
        Ok(answer)
    }

    /// How a sleep until `time` stands.
    pub(crate) fn slept(
        &mut self,
        key: &str,
        time: DateTime<Utc>,
        now: DateTime<Utc>,
        is_turn: impl Fn(&Self, u32) -> bool,
    ) -> Result<Paused<()>, Verdict> {
        let until = match self.history.ask_note(key) {
            Some(Note { said: Said::Timer { fired: true, .. }, last_seq, .. }) => {
                let said = *last_seq;
                return Ok(self.in_turn(said, (), is_turn));
            }
            Some(Note { said: Said::Timer { until, .. }, .. }) => *until,
            _ => {
                let started = Entry::TimerStarted(TimerStarted { until: time });
                self.append(Some(key), None, started, &[], None, now)?;
                time
            }
        };
        if until > now {
            return Ok(Paused::Until(Some(until)));
        }
        let over = self.in_turn(self.history.length(), (), is_turn);
        if matches!(over, Paused::Over(())) {
            self.append(Some(key), None, Entry::TimerFired, &[], None, now)?;
        }
        Ok(over)
    }

    /// How a wait for the signal `name` stands; over, with the signal that has ended it, if one has.
    pub(crate) fn waited(
        &mut self,
        key: &str,
        name: &str,
        timeout: Duration,
        now: DateTime<Utc>,
        is_turn: impl Fn(&Self, u32) -> bool,
    ) -> Result<Paused<Option<Box<RawValue>>>, Verdict> {
        let until = match self.history.ask_note(key) {
            Some(Note { said: Said::Wait { ended: Some(signal), .. }, last_seq, .. }) => {
                let (signal, said) = (*signal, *last_seq);
                let body = signal.map(|seq| {
                    let taken = self.history.signal(seq);
                    taken.map_or_else(|| RawValue::NULL.to_owned(), |it| it.body.clone())
                });
                return Ok(self.in_turn(said, body, is_turn));
            }
            Some(Note { said: Said::Wait { until, .. }, .. }) => *until,
            _ => {
                let until = later(now, timeout);
                let started = Entry::WaitStarted(WaitStarted { until });
                self.append(Some(key), None, started, &[], None, now)?;
                // Writing the row finds signals that came before there was an instance.
                self.touch_row();
                until
            }
        };
        let next = self.history.next_signal(name).map(|next| (next.seq, next.body.clone()));
        if next.is_none() && until.is_none_or(|until| until > now) {
            return Ok(Paused::Until(until));
        }
        let (signal, body) = next.unzip();
        let over = self.in_turn(self.history.length(), body, is_turn);
        if matches!(over, Paused::Over(_)) {
            let ended = Entry::WaitEnded(WaitEnded { signal });
            self.append(Some(key), None, ended, &[], None, now)?;
        }
        Ok(over)
    }

    /// An answer that record `seq` holds, or will hold, if it is its turn.
    fn in_turn<T>(&self, seq: u32, answer: T, is_turn: impl Fn(&Self, u32) -> bool) -> Paused<T> {
        if is_turn(self, seq) { Paused::Over(answer) } else { Paused::OutOfTurn(seq) }
    }
}

/// The time after a duration; none if there is no such time.
pub(crate) fn later(now: DateTime<Utc>, duration: Duration) -> Option<DateTime<Utc>> {
    TimeDelta::from_std(duration).ok().and_then(|delta| now.checked_add_signed(delta))
}
