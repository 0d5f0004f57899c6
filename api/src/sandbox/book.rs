//! What the ledger knows, and what it therefore answers to a call.
//!
//! Pure: no clock, no I/O. The book follows from the records alone, so reading the file again
//! gives the same answers. Invariants: a key is decided once; sequences have no gaps; a forward
//! key that was undone stays undone, be it that it was never seen.

use std::collections::{HashMap, HashSet};

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::events::{Arrival, Event};
use super::key::Key;
use super::operation::{Operation, Provider};
use super::problem::Problem;
use super::record::{Answer, Decision, Effect, Entry, Record, Subject};

/// A request to a provider, read and checked but not yet decided.
#[derive(Clone)]
pub(super) struct Call {
    /// What is asked for.
    pub(super) operation: Operation,
    /// Whose answer is kept.
    pub(super) key: Key,
    /// SHA-256 of the body bytes: one key means one body.
    pub(super) digest: String,
    /// How references of this operation begin.
    pub(super) prefix: &'static str,
    /// What it would do.
    pub(super) work: Work,
    /// Set when a fault says no in the provider's name.
    pub(super) refusal: Option<Problem>,
    /// Whether an undo of what was never seen is remembered.
    pub(super) remembers: bool,
}

/// What a call would do, and how its answer is written.
#[derive(Clone)]
pub(super) enum Work {
    /// Have an effect.
    Forward {
        /// What the effect is about.
        subject: Subject,
        /// The body of the answer.
        answer: fn(&Effect) -> Value,
    },
    /// Undo the effect that was had under another key.
    Undo {
        /// The operation that is undone.
        forward: Operation,
        /// The key it was called with.
        forward_key: Key,
        /// How much of its money, if not all that is left.
        part: Option<Part>,
        /// The body of the answer; without an effect when there was nothing to undo.
        answer: fn(Option<&Effect>) -> Value,
    },
}

/// Some of the money of an effect.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// In minor units.
    pub(super) amount_minor: u64,
    /// That of the effect, if it is not said.
    pub(super) currency: Option<String>,
}

/// Something that may change the book.
pub(super) enum Change {
    /// A call to a provider.
    Call(Box<Call>),
    /// An event that arrived.
    Event(Event),
}

/// What the book says to a change.
pub(super) enum Verdict {
    /// Nothing changes; this is the answer.
    Known(Result<Answer, Problem>),
    /// The answer may leave once this record is durable.
    Fresh(Record),
}

/// What the book knows about a key.
pub(super) enum Standing<'a> {
    /// Nothing that stands in the way.
    Open,
    /// It was decided, with the same body.
    Settled(&'a Decision),
    /// It was decided, with another body or for another operation.
    Reused,
    /// It was undone before it was ever seen.
    Undone,
}

/// A record that contradicts the ones before it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Contradiction(&'static str);

/// Everything the ledger file says, in memory.
#[derive(Default)]
pub(super) struct Book {
    decisions: Vec<Decision>,
    by_key: HashMap<(Provider, Key), usize>,
    undone: HashSet<(Provider, Key)>,
    /// How much of the money of a forward key was given back.
    given_back: HashMap<(Provider, Key), u64>,
    effects: u64,
    effects_by_operation: HashMap<Operation, u64>,
    arrivals: Vec<Arrival>,
}

impl Book {
    /// What the book knows about a call's key.
    pub(super) fn standing(&self, call: &Call) -> Standing<'_> {
        match self.decision(call.operation.provider(), &call.key) {
            Some(decision)
                if decision.operation == call.operation && decision.digest == call.digest =>
            {
                Standing::Settled(decision)
            }
            Some(_) => Standing::Reused,
            None if self.is_undone(call) => Standing::Undone,
            None => Standing::Open,
        }
    }

    /// The key, numbered if it was used before: so a provider does again what it is asked for again.
    pub(super) fn fresh(&self, provider: Provider, key: &Key) -> Key {
        let (mut fresh, mut times) = (key.clone(), 1);
        while self.decision(provider, &fresh).is_some() {
            times += 1;
            fresh = key.numbered(times);
        }
        fresh
    }

    /// The decision by which a key had its effect, if the operation had one under it.
    pub(super) fn applied(&self, operation: Operation, key: &Key) -> Option<&Decision> {
        self.decision(operation.provider(), key)
            .filter(|decision| decision.operation == operation && decision.effect.is_some())
    }

    /// The order a call is about, as far as the book can tell.
    pub(super) fn order_id<'a>(&'a self, call: &'a Call) -> Option<&'a str> {
        match &call.work {
            Work::Forward { subject, .. } => Some(&subject.order_id),
            Work::Undo { forward, forward_key, .. } => {
                Some(&self.effect(*forward, forward_key)?.subject.order_id)
            }
        }
    }

    /// Says what a change leads to; changes nothing itself.
    pub(super) fn decide(&self, change: Change, at: DateTime<Utc>) -> Verdict {
        let call = match change {
            Change::Call(call) => call,
            Change::Event(event) => {
                let arrival = self.arrivals.len() as u64 + 1;
                return Verdict::Fresh(Record::Event(Arrival { arrival, at, event }));
            }
        };
        match self.standing(&call) {
            Standing::Open => Verdict::Fresh(Record::Call(self.decide_open(*call, at))),
            Standing::Settled(decision) => Verdict::Known(Ok(decision.replay())),
            Standing::Reused => Verdict::Known(Err(key_reused())),
            Standing::Undone => Verdict::Known(Err(already_undone())),
        }
    }

    /// Adds a record that was decided here or read from the file.
    pub(super) fn add(&mut self, record: Record) -> Result<(), Contradiction> {
        match record {
            Record::Call(decision) => self.add_decision(decision),
            Record::Event(arrival) => {
                if arrival.arrival != self.arrivals.len() as u64 + 1 {
                    return Err(Contradiction("an event is missing before this one"));
                }
                self.arrivals.push(arrival);
                Ok(())
            }
        }
    }

    /// The applied effects in order; of one order, if asked.
    pub(super) fn entries<'a>(&'a self, order_id: Option<&'a str>) -> Vec<Entry<'a>> {
        self.decisions
            .iter()
            .filter_map(Decision::entry)
            .filter(|entry| order_id.is_none_or(|wanted| entry.order_id == wanted))
            .collect()
    }

    /// The events in the order of their arrival; of one subject, if asked.
    pub(super) fn arrivals<'a>(&'a self, subject: Option<&'a str>) -> Vec<&'a Arrival> {
        self.arrivals
            .iter()
            .filter(|arrival| subject.is_none() || arrival.event.subject.as_deref() == subject)
            .collect()
    }

    fn decide_open(&self, call: Call, at: DateTime<Utc>) -> Decision {
        let Call { operation, key, digest, prefix, work, refusal, remembers } = call;
        let decided = |status: StatusCode, body: String| Decision {
            operation,
            key,
            digest,
            at,
            status: status.as_u16(),
            body,
            undoes: None,
            effect: None,
        };
        match (refusal, work) {
            (Some(refusal), _) => decided(refusal.status, refusal.body()),
            (None, Work::Forward { subject, answer }) => {
                let effect = self.next_effect(operation, prefix, subject);
                let body = answer(&effect).to_string();
                Decision { effect: Some(effect), ..decided(StatusCode::CREATED, body) }
            }
            (None, Work::Undo { forward, forward_key, part, answer }) => {
                let subject = match self.to_undo(forward, &forward_key, part.as_ref()) {
                    Ok(subject) => subject,
                    Err(refusal) => return decided(refusal.status, refusal.body()),
                };
                let effect = subject.map(|subject| self.next_effect(operation, prefix, subject));
                let body = answer(effect.as_ref()).to_string();
                let undoes = (remembers || effect.is_some()).then_some(forward_key);
                Decision { undoes, effect, ..decided(StatusCode::OK, body) }
            }
        }
    }

    /// What an undo is about; none if nothing is left to undo.
    fn to_undo(
        &self,
        forward: Operation,
        forward_key: &Key,
        part: Option<&Part>,
    ) -> Result<Option<Subject>, Problem> {
        let Some(effect) = self.effect(forward, forward_key) else {
            return Ok(None);
        };
        let (subject, name) = (&effect.subject, (forward.provider(), forward_key.clone()));
        let Some(amount_minor) = subject.amount_minor.filter(|amount| *amount > 0) else {
            return Ok((!self.undone.contains(&name)).then(|| subject.clone()));
        };
        let given_back = self.given_back.get(&name).copied().unwrap_or_default();
        let left = amount_minor.saturating_sub(given_back);
        if left == 0 {
            return Ok(None);
        }
        let is_foreign = |part: &Part| part.currency.is_some() && part.currency != subject.currency;
        if part.is_some_and(|part| part.amount_minor > left || is_foreign(part)) {
            return Err(refund_too_large(left));
        }
        let amount_minor = Some(part.map_or(left, |part| part.amount_minor));
        Ok(Some(Subject { amount_minor, ..subject.clone() }))
    }

    fn next_effect(&self, operation: Operation, prefix: &str, subject: Subject) -> Effect {
        let sequence = self.effects + 1;
        let ordinal = self.effects_of(operation) + 1;
        Effect { sequence, ordinal, reference: format!("{prefix}_{sequence:06}"), subject }
    }

    fn add_decision(&mut self, decision: Decision) -> Result<(), Contradiction> {
        let operation = decision.operation;
        let provider = operation.provider();
        let name = (provider, decision.key.clone());
        if self.by_key.contains_key(&name) {
            return Err(Contradiction("the key was decided before"));
        }
        if let Some(effect) = &decision.effect {
            let expected = (self.effects + 1, self.effects_of(operation) + 1);
            if (effect.sequence, effect.ordinal) != expected {
                return Err(Contradiction("an effect is missing before this one"));
            }
            self.effects += 1;
            *self.effects_by_operation.entry(operation).or_default() += 1;
        }
        if let Some(forward_key) = &decision.undoes {
            let forward = (provider, forward_key.clone());
            let amount_minor = decision.effect.as_ref().and_then(|it| it.subject.amount_minor);
            *self.given_back.entry(forward.clone()).or_default() +=
                amount_minor.unwrap_or_default();
            self.undone.insert(forward);
        }
        self.by_key.insert(name, self.decisions.len());
        self.decisions.push(decision);
        Ok(())
    }

    fn is_undone(&self, call: &Call) -> bool {
        let name = (call.operation.provider(), call.key.clone());
        matches!(call.work, Work::Forward { .. }) && self.undone.contains(&name)
    }

    fn decision(&self, provider: Provider, key: &Key) -> Option<&Decision> {
        self.by_key.get(&(provider, key.clone())).and_then(|&index| self.decisions.get(index))
    }

    fn effect(&self, operation: Operation, key: &Key) -> Option<&Effect> {
        self.applied(operation, key)?.effect.as_ref()
    }

    fn effects_of(&self, operation: Operation) -> u64 {
        self.effects_by_operation.get(&operation).copied().unwrap_or_default()
    }
}

fn key_reused() -> Problem {
    let detail = "the Idempotency-Key was used before with another body or operation";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
}

fn already_undone() -> Problem {
    let detail = "this Idempotency-Key was undone before it was seen and stays undone";
    Problem::new(StatusCode::CONFLICT, "already_undone", detail)
}

fn refund_too_large(left: u64) -> Problem {
    let detail = format!("only {left} minor units of its own currency are left of the charge");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "refund_too_large", detail)
}
