//! What a run asks for beside steps: time, signals, and values that every replay sees again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};

use super::open_call::CallName;
use super::{Halt, Saga};
use crate::event::Event;
use crate::history::{MARKER, Note, Said, marker};
use crate::instance::{State, Verdict};
use crate::record::{Entry, Noted, TimerStarted, WaitEnded, WaitStarted};
use crate::signal::Signal;
use crate::step::Failure;

/// What keys begin with.
const WAIT: &str = "wait:";
const EVENT: &str = "event:";

const SLEEP: CallName<'_> = CallName::note("timer:", "sleep");

impl Saga {
    /// Waits for `duration`. The instance costs no memory meanwhile, and nothing it waits for is
    /// lost if its worker is.
    pub async fn sleep(&self, duration: Duration) -> Result<(), Halt> {
        let until = later(self.0.worker.clock.now(), duration);
        self.call(SLEEP, self.sleep_to(until)).await
    }

    /// Waits until `time`; not at all if it has passed.
    pub async fn sleep_until(&self, time: DateTime<Utc>) -> Result<(), Halt> {
        self.call(SLEEP, self.sleep_to(Some(time))).await
    }

    /// Waits for the next signal of this sort, at most for `timeout` ([`Duration::MAX`]: for as
    /// long as it takes). `None`: none has come in time.
    ///
    /// Signals are taken in the order in which they were accepted, also those that came before
    /// anybody waited, or before the instance was started.
    pub async fn wait<S: Signal>(&self, timeout: Duration) -> Result<Option<S>, Halt> {
        self.call(CallName::note(WAIT, S::NAME), async {
            let body = self.wait_for(S::NAME, timeout).await?;
            body.map(|body| {
                serde_json::from_str(body.get()).map_err(|error| {
                    let message = format!("signal {}: {error}", S::NAME);
                    Verdict::Stick(Failure::new("SIGNAL_UNREADABLE", message))
                })
            })
            .transpose()
        })
        .await
    }

    /// The present, the same in every replay.
    pub async fn now(&self) -> Result<DateTime<Utc>, Halt> {
        self.call(CallName::note("value:", "now"), async {
            let now = self.0.worker.clock.now();
            let value = self.note("value:now", &[], || to_raw_value(&now))?;
            read(&value)
        })
        .await
    }

    /// A number that is different for every call and instance, and the same in every replay.
    #[must_use]
    pub fn random(&self) -> u64 {
        let key = self.0.occurrence("value:random".to_owned());
        let digest = Sha256::new().chain_update(self.0.instance_id).chain_update(key).finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Publishes an event, once.
    pub async fn publish(&self, event: Event) -> Result<(), Halt> {
        self.call(CallName::note(EVENT, event.kind), async {
            let key = format!("{EVENT}{}", event.kind);
            self.note(&key, &[event], || Ok(RawValue::NULL.to_owned())).map(drop)
        })
        .await
    }

    /// Whether this instance runs the code behind the change `name`: `true` for instances that come
    /// to the first place that asks for it when it is in the code, `false` for those that had gone
    /// beyond that place before. The answer is recorded, and is the same wherever and however often
    /// an instance asks: in a loop, too.
    ///
    /// Lets one version's code change under live instances: put the new code where this answers
    /// `true`, and leave the old code in the other branch until every live instance has been started
    /// since the change. Then the question may be dropped.
    pub async fn patched(&self, name: &str) -> Result<bool, Halt> {
        self.call(CallName::note(MARKER, name), async {
            let mut state = self.0.state();
            let [yes, no] = [true, false].map(|answer| marker(name, answer));
            if state.history.ask_note(&yes).is_some() {
                return Ok(true);
            }
            if state.history.ask_note(&no).is_some() {
                return Ok(false);
            }
            let answer = state.history.unasked().is_none();
            let value = if answer { RawValue::TRUE } else { RawValue::FALSE };
            let noted = Entry::Noted(Noted { value: value.to_owned() });
            let at = self.0.worker.clock.now();
            state.append(Some(&marker(name, answer)), None, noted, &[], None, at)?;
            Ok(answer)
        })
        .await
    }

    async fn sleep_to(&self, time: Option<DateTime<Utc>>) -> Result<(), Verdict> {
        let key = self.0.occurrence("timer:sleep".to_owned());
        loop {
            let until = match self.slept(&key, time.unwrap_or(DateTime::<Utc>::MAX_UTC))? {
                Paused::Over(()) => return Ok(()),
                Paused::OutOfTurn(seq) => {
                    self.0.turn(seq).await;
                    continue;
                }
                Paused::Until(until) => until,
            };
            self.0.leave_history(&key).await;
            self.0.obstacle().map_or(Ok(()), Err)?;
            self.0.pause_until(until).await?;
        }
    }

    /// How a sleep stands.
    fn slept(&self, key: &str, time: DateTime<Utc>) -> Result<Paused<()>, Verdict> {
        let now = self.0.worker.clock.now();
        let mut state = self.0.state();
        let until = match state.history.ask_note(key) {
            Some(Note { said: Said::Timer { fired: true, .. }, last_seq, .. }) => {
                let said = *last_seq;
                return Ok(self.in_turn(&state, said, ()));
            }
            Some(Note { said: Said::Timer { until, .. }, .. }) => *until,
            _ => {
                let started = Entry::TimerStarted(TimerStarted { until: time });
                state.append(Some(key), None, started, &[], None, now)?;
                time
            }
        };
        if until > now {
            return Ok(Paused::Until(Some(until)));
        }
        let over = self.in_turn(&state, state.history.length(), ());
        if matches!(over, Paused::Over(())) {
            state.append(Some(key), None, Entry::TimerFired, &[], None, now)?;
        }
        Ok(over)
    }

    /// An answer that record `seq` holds, or will hold, if it is its turn.
    fn in_turn<T>(&self, state: &State, seq: u32, answer: T) -> Paused<T> {
        if self.0.is_turn(state, seq) { Paused::Over(answer) } else { Paused::OutOfTurn(seq) }
    }

    async fn wait_for(
        &self,
        name: &'static str,
        timeout: Duration,
    ) -> Result<Option<Box<RawValue>>, Verdict> {
        if !self.0.workflow.signals().names().any(|known| known == name) {
            let message = format!("{name} is not among the signals of {}", self.0.workflow.name());
            return Err(Verdict::Stick(Failure::new("SIGNAL_NOT_DECLARED", message)));
        }
        let key = self.0.occurrence(format!("{WAIT}{name}"));
        loop {
            let until = match self.waited(&key, name, timeout)? {
                Paused::Over(body) => return Ok(body),
                Paused::OutOfTurn(seq) => {
                    self.0.turn(seq).await;
                    continue;
                }
                Paused::Until(until) => until,
            };
            self.0.leave_history(&key).await;
            self.0.obstacle().map_or(Ok(()), Err)?;
            self.0.pause_until(until).await?;
        }
    }

    /// How a wait stands; over, with the signal that has ended it, if one has.
    fn waited(
        &self,
        key: &str,
        name: &str,
        timeout: Duration,
    ) -> Result<Paused<Option<Box<RawValue>>>, Verdict> {
        let now = self.0.worker.clock.now();
        let mut state = self.0.state();
        let until = match state.history.ask_note(key) {
            Some(Note { said: Said::Wait { ended: Some(signal), .. }, last_seq, .. }) => {
                let (signal, said) = (*signal, *last_seq);
                let body = signal.map(|seq| {
                    let taken = state.history.signal(seq);
                    taken.map_or_else(|| RawValue::NULL.to_owned(), |it| it.body.clone())
                });
                return Ok(self.in_turn(&state, said, body));
            }
            Some(Note { said: Said::Wait { until, .. }, .. }) => *until,
            _ => {
                let until = later(now, timeout);
                let started = Entry::WaitStarted(WaitStarted { until });
                state.append(Some(key), None, started, &[], None, now)?;
                // Writing the row finds signals that came before there was an instance.
                state.touch_row();
                until
            }
        };
        let next = state.history.next_signal(name).map(|next| (next.seq, next.body.clone()));
        if next.is_none() && until.is_none_or(|until| until > now) {
            return Ok(Paused::Until(until));
        }
        let (signal, body) = next.unzip();
        let over = self.in_turn(&state, state.history.length(), body);
        if matches!(over, Paused::Over(_)) {
            state.append(
                Some(key),
                None,
                Entry::WaitEnded(WaitEnded { signal }),
                &[],
                None,
                now,
            )?;
        }
        Ok(over)
    }

    /// The value under a key: what is recorded, or what `make` makes and is recorded now.
    fn note(
        &self,
        name: &str,
        events: &[Event],
        make: impl FnOnce() -> Result<Box<RawValue>, serde_json::Error>,
    ) -> Result<Box<RawValue>, Verdict> {
        let key = self.0.occurrence(name.to_owned());
        let at = self.0.worker.clock.now();
        let mut state = self.0.state();
        if let Some(Note { said: Said::Value(value), .. }) = state.history.ask_note(&key) {
            return Ok(value.clone());
        }
        let value = make().map_err(|error| Verdict::Unrecordable(error.to_string()))?;
        let noted = Entry::Noted(Noted { value: value.clone() });
        state.append(Some(&key), None, noted, events, None, at)?;
        Ok(value)
    }
}

/// How a sleep or a wait stands.
enum Paused<T> {
    Over(T),
    /// It is over, and the run hears of it when it is the turn of this record.
    OutOfTurn(u32),
    /// Until a time; without one, until a signal comes.
    Until(Option<DateTime<Utc>>),
}

/// The time after a duration; none if there is no such time.
fn later(now: DateTime<Utc>, duration: Duration) -> Option<DateTime<Utc>> {
    TimeDelta::from_std(duration).ok().and_then(|delta| now.checked_add_signed(delta))
}

fn read<T: serde::de::DeserializeOwned>(value: &RawValue) -> Result<T, Verdict> {
    serde_json::from_str(value.get())
        .map_err(|error| Verdict::Stick(Failure::new("RECORD_UNREADABLE", error.to_string())))
}
