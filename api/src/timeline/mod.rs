//! A history in words: one line per record, for people who know orders and not this engine.
//!
//! Pure. A record that cannot be read, be it of a later build, still gets its line.

mod amount;
mod payload;
mod waits;
mod words;

use amends::{Money, Movement, MovementKind, Status};
use amends_workflows::order::{Closed, Payment};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;

use crate::view::{Failure, Record};

pub use amount::amount;
use payload::{AttemptOutcome, Finding};
pub(crate) use waits::waits;
pub(crate) use words::{moved, thing};

/// What one record says.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The record.
    pub seq: u32,
    /// When.
    pub at: DateTime<Utc>,
    /// What happened, in words.
    pub text: String,
    /// Which attempt, from 1.
    pub attempt: Option<u32>,
    /// What went wrong, if that is what happened.
    pub failure: Option<Failure>,
    /// The money that moved.
    pub money: Vec<Movement>,
    /// The person who caused it.
    pub actor: Option<String>,
}

/// Tells a history, oldest first.
#[must_use]
pub fn timeline(history: &[Record]) -> Vec<Line> {
    history.iter().map(line).collect()
}

/// What a record comes to, before its place in the history is added.
#[derive(Default)]
struct Told {
    text: String,
    failure: Option<Failure>,
    money: Vec<Movement>,
}

fn line(record: &Record) -> Line {
    let Told { text, failure, money } = told(record).unwrap_or_else(|| Told::text(unread(record)));
    let (attempt, actor) = (record.attempt, record.actor.clone());
    Line { seq: record.seq, at: record.at, text, attempt, failure, money, actor }
}

fn unread(record: &Record) -> String {
    let kind = record.kind.replace('_', " ");
    record.step.as_ref().map_or_else(|| kind.clone(), |step| format!("{kind}: {step}"))
}

fn told(record: &Record) -> Option<Told> {
    let step = record.step.as_deref().unwrap_or("unnamed");
    let actor = record.actor.as_deref().unwrap_or("somebody");
    match record.kind.as_str() {
        "started" => read(record).map(|started| Told::text(accepted(&started))),
        "step_started" => Some(Told::text(format!("began {}", words::thing(step)))),
        "step_done" => read(record).map(|done: payload::StepDone| Told {
            text: words::done(step, &done.output, &done.money),
            money: done.money,
            failure: None,
        }),
        "step_attempt_failed" => read(record).map(|failed| step_failed(step, failed, record.at)),
        "worker_lost" => Some(Told::text("the server was lost; another one goes on".to_owned())),
        "step_late" => read(record).map(|late| step_late(step, late)),
        "step_interrupted" => read(record).map(|interrupted: payload::Interrupted| {
            let thing = words::thing(step);
            let again = next_try(interrupted.retry_at, record.at);
            Told::text(format!(
                "{thing} was interrupted: it is not known whether it succeeded{again}"
            ))
        }),
        "step_not_found" => read(record).map(|found: payload::NotFound| {
            let again = next_try(found.retry_at, record.at);
            Told::text(format!("the provider does not know of {}{again}", words::thing(step)))
        }),
        "compensation_planned" => read(record).map(planned),
        "step_compensated" => read(record).map(|undone| compensated(step, undone, record.at)),
        "compensation_attempt_failed" => read(record).map(|failed: payload::AttemptFailed| {
            let (thing, message) = (words::thing(step), sentence(&failed.failure.message));
            let again = next_try(failed.retry_at, record.at);
            let text = format!("could not undo {thing}: {message}{again}");
            Told { text, failure: Some(failed.failure), money: Vec::new() }
        }),
        "command" => read(record).map(|command| commanded(command, actor)),
        "signal" => read(record).map(|signal: payload::Signal| {
            Told::text(format!("{actor} sent the signal {}", signal.signal))
        }),
        "mail_refused" => read(record).map(not_taken),
        "timer_started" => {
            read(record).map(|timer: payload::TimerStarted| Told::text(waits::sleeps(timer.until)))
        }
        "timer_fired" => Some(Told::text("woke up".to_owned())),
        "wait_started" => read(record)
            .map(|wait: payload::WaitStarted| Told::text(waits::for_signal(step, wait.until))),
        "wait_ended" => read(record).map(|wait| waited(step, &wait)),
        "noted" => {
            read(record).map(|noted: payload::Noted| Told::text(words::noted(step, &noted.value)))
        }
        "child_started" => read(record).map(|child: payload::ChildStarted| {
            let how = if child.detached { "and let it go" } else { "on its behalf" };
            Told::text(format!("started {} {how}", words::called(step)))
        }),
        "child_ended" => read(record).map(|ended: payload::Ended| Told {
            text: format!("{}: {}", words::called(step), ending(ended.status)),
            failure: ended.failure,
            money: Vec::new(),
        }),
        "stuck" => read(record).map(|failure: Failure| {
            let text = format!("stuck until a person decides: {}", sentence(&failure.message));
            Told { text, failure: Some(failure), money: Vec::new() }
        }),
        "ended" => read(record).map(|ended: payload::Ended| Told {
            text: format!("{}{}", ending(ended.status), unheard(ended.unread.len())),
            failure: ended.failure,
            money: Vec::new(),
        }),
        _ => None,
    }
}

impl Told {
    fn text(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

fn read<'a, T: Deserialize<'a>>(record: &'a Record) -> Option<T> {
    serde_json::from_str(record.payload.get()).ok()
}

fn accepted(started: &payload::Started) -> String {
    let order = OrderHead::of_input(&started.input);
    match order {
        Some(order) => format!("accepted order {} over {}", order.number, amount(order.total())),
        None => format!("accepted {}", started.business_key),
    }
}

fn not_taken(refused: payload::MailRefused) -> Told {
    let payload::MailRefused { mail_seq, why } = refused;
    Told::text(format!("message {mail_seq} could not be taken: {}", sentence(&why)))
}

fn waited(step: &str, wait: &payload::WaitEnded) -> Told {
    let signal = words::called(step);
    Told::text(match wait.signal {
        Some(_) => format!("{signal} is here; goes on with it"),
        None => format!("{signal} did not come in time; goes on without it"),
    })
}

fn step_late(step: &str, late: payload::Late) -> Told {
    let text = format!("{} is not tried any more: its deadline has passed", words::thing(step));
    Told { text, failure: Some(late.failure), money: late.money }
}

fn step_failed(step: &str, failed: payload::AttemptFailed, at: DateTime<Utc>) -> Told {
    let thing = words::thing(step);
    let message = sentence(&failed.failure.message);
    let again = next_try(failed.retry_at, at);
    let text = match failed.outcome {
        AttemptOutcome::Fail | AttemptOutcome::Refused => {
            format!("{}: {message}", words::failed(step, &failed.failure.code))
        }
        AttemptOutcome::Retry => format!("{thing} did not succeed: {message}{again}"),
        AttemptOutcome::Unknown => {
            format!("it is not known whether {thing} succeeded: {message}{again}")
        }
    };
    Told { text, failure: Some(failed.failure), money: failed.money }
}

fn planned(planned: payload::CompensationPlanned) -> Told {
    let why = match planned.reason.kind.as_str() {
        "cancel" => "cancelled",
        _ => "cannot go on",
    };
    let things: Vec<_> = planned
        .plan
        .iter()
        .map(|step| match step.known {
            true => words::thing(&step.step),
            false => format!("{} (if it succeeded)", words::thing(&step.step)),
        })
        .collect();
    let text = if things.is_empty() {
        format!("{why}; there is nothing to undo")
    } else {
        format!("{why}; to undo: {}", things.join(", "))
    };
    Told { text, failure: Some(planned.reason.failure), money: Vec::new() }
}

fn compensated(step: &str, undone: payload::StepCompensated, at: DateTime<Utc>) -> Told {
    let payload::StepCompensated { applied, reference, money, recheck_at } = undone;
    let text = words::undone(step, applied, reference.as_deref(), &money);
    let again = recheck_at
        .map_or_else(String::new, |again| format!("; looks once more in {}", span(again - at)));
    Told { text: format!("{text}{again}"), money, failure: None }
}

fn commanded(command: payload::Command, actor: &str) -> Told {
    let reason = sentence(&command.reason);
    let Some(resolution) = command.resolution else {
        return Told::text(format!("{actor} asked to {}: {reason}", command.command));
    };
    let thing = resolution.step.as_deref().map(words::thing).unwrap_or_default();
    let found = match resolution.finding {
        Some(Finding::Applied(_)) => Some(format!("{thing} has succeeded")),
        Some(Finding::NotApplied) => Some(format!("{thing} has not succeeded")),
        Some(Finding::Undone(reference)) => {
            let reference = reference.map_or_else(String::new, |it| format!(" ({it})"));
            Some(format!("{thing} is undone{reference}"))
        }
        Some(Finding::Dropped) => {
            let signal = words::called(resolution.step.as_deref().unwrap_or_default());
            Some(format!("{signal} cannot be read and is given up"))
        }
        Some(Finding::Again) => Some(format!("{thing} is to be started again")),
        None => None,
    };
    let step = resolution.step.as_deref().unwrap_or_default();
    let money = Some(words::moved(step, &command.money)).filter(|money| !money.is_empty());
    let findings: Vec<_> = found.into_iter().chain(money).collect();
    let (findings, evidence) = (findings.join("; "), sentence(&resolution.evidence));
    let did = match &*command.command {
        "book" => "booked what has moved outside",
        _ => "resolved it",
    };
    let text = format!("{actor} {did}: {findings}; evidence: {evidence}; reason: {reason}");
    Told { text, money: command.money, failure: None }
}

fn ending(status: Status) -> &'static str {
    match status {
        Status::Completed => "completed",
        Status::Compensated => "ended; everything that had been done is undone",
        Status::Cancelled => "ended as cancelled; everything that had been done is undone",
        Status::Terminated => "stopped by force; nothing was undone",
        Status::Pending
        | Status::Running
        | Status::Waiting
        | Status::Compensating
        | Status::Stuck => "ended",
    }
}

/// Signals that came in and that nobody waited for.
fn unheard(signals: usize) -> String {
    match signals {
        0 => String::new(),
        1 => "; a signal that had come in was not needed".to_owned(),
        _ => format!("; {signals} signals that had come in were not needed"),
    }
}

fn next_try(retry_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    retry_at.map_or_else(String::new, |at| format!("; next try in {}", span(at - now)))
}

/// A length of time in its largest fitting unit.
fn span(length: TimeDelta) -> String {
    let milliseconds = length.num_milliseconds().max(0);
    let seconds = milliseconds.saturating_add(500) / 1_000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A message as a part of a longer sentence. Providers' messages begin with path and status, as
/// developers need them; what the provider said comes after.
fn sentence(message: &str) -> &str {
    let message = message.trim().trim_end_matches('.');
    let Some((_, said)) = message.split_once(": ").filter(|_| message.starts_with('/')) else {
        return message;
    };
    match said.split_once(": ") {
        Some((status, said)) if status.parse::<u16>().is_ok() => said,
        _ => said,
    }
}

/// What names an order, read from the input of its workflow.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OrderHead {
    pub(crate) shop: String,
    pub(crate) order_id: String,
    pub(crate) number: String,
    currency: amends::Currency,
    total_minor: i64,
    #[serde(default)]
    agreed_total: Option<Money>,
    #[serde(default)]
    pub(crate) payment: Payment,
    #[serde(default)]
    pub(crate) closed: Option<Closed>,
}

impl OrderHead {
    /// The order that a history began with; `None` if it began with something else.
    pub(crate) fn of_history(history: &[Record]) -> Option<Self> {
        let first = history.first().filter(|record| record.kind == "started")?;
        Self::of_input(&read::<payload::Started>(first)?.input)
    }

    fn of_input(input: &Value) -> Option<Self> {
        Self::deserialize(input).ok()
    }

    pub(crate) fn total(&self) -> Money {
        let own = Money { amount_minor: self.total_minor, currency: self.currency };
        self.agreed_total.unwrap_or(own)
    }
}

/// All that has moved one way in `currency`, in minor units. What does not fit is cut off.
pub(crate) fn moved_minor(lines: &[Line], kind: MovementKind, currency: amends::Currency) -> i64 {
    lines
        .iter()
        .flat_map(|line| &line.money)
        .filter(|movement| movement.kind == kind && movement.money.currency == currency)
        .fold(0, |sum: i64, movement| sum.saturating_add(movement.money.amount_minor))
}

/// The number that a parcel is followed with, once there is one.
pub(crate) fn tracking_number(history: &[Record]) -> Option<String> {
    history.iter().find_map(|record| {
        let output = output(record)?;
        Some(output.get("tracking_number")?.as_str()?.to_owned())
    })
}

/// The output of a step, recorded by itself or found out by a person.
fn output(record: &Record) -> Option<Value> {
    match record.kind.as_str() {
        "step_done" => read(record).map(|done: payload::StepDone| done.output),
        "command" => match read::<payload::Command>(record)?.resolution?.finding? {
            Finding::Applied(output) => Some(output),
            Finding::NotApplied | Finding::Undone(_) | Finding::Dropped | Finding::Again => None,
        },
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
