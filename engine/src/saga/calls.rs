//! What a run asks for beside steps: time, signals, and values that every replay sees again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};

use super::open_call::CallName;
use super::{Halt, Saga};
use crate::event::Event;
use crate::history::{MARKER, Note, Said};
use crate::instance::{Paused, State, Verdict, later};
use crate::record::{Entry, Noted};
use crate::signal::Signal;
use crate::step::Failure;

/// What keys begin with.
const WAIT: &str = "wait:";
const EVENT: &str = "event:";
const VALUE: &str = "value:";

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
        self.value("now", || self.0.worker.clock.now()).await
    }

    /// A number that is different for every call and instance, and the same in every replay.
    #[must_use]
    pub fn random(&self) -> u64 {
        let key = self.0.occurrence("value:random".to_owned());
        let digest = Sha256::new().chain_update(self.0.instance_id).chain_update(key).finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A value that is made once and recorded, such as a setting of the server that first comes
    /// here: the same in every replay, whatever another server or a later build would make.
    ///
    /// `make` has no effect on the world; what has one is a step. It is recorded with what is written
    /// next, so it may be made again if its worker is lost before that.
    pub async fn value<T>(&self, name: &str, make: impl FnOnce() -> T) -> Result<T, Halt>
    where
        T: Serialize + DeserializeOwned,
    {
        self.call(CallName::note(VALUE, name), async {
            let value = self.note(&format!("{VALUE}{name}"), &[], || to_raw_value(&make()))?;
            read(&value)
        })
        .await
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
            let now = self.0.worker.clock.now();
            self.0.state().patched(name, now)
        })
        .await
    }

    async fn sleep_to(&self, time: Option<DateTime<Utc>>) -> Result<(), Verdict> {
        let key = self.0.occurrence("timer:sleep".to_owned());
        loop {
            let (time, now) = (time.unwrap_or(DateTime::<Utc>::MAX_UTC), self.0.worker.clock.now());
            let is_turn = |state: &State, seq| self.0.is_turn(state, seq);
            let slept = self.0.state().slept(&key, time, now, is_turn)?;
            let until = match slept {
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
            let now = self.0.worker.clock.now();
            let is_turn = |state: &State, seq| self.0.is_turn(state, seq);
            let waited = self.0.state().waited(&key, name, timeout, now, is_turn)?;
            let until = match waited {
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

fn read<T: DeserializeOwned>(value: &RawValue) -> Result<T, Verdict> {
    serde_json::from_str(value.get())
        .map_err(|error| Verdict::Stick(Failure::new("RECORD_UNREADABLE", error.to_string())))
}
