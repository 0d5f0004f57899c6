//! One delivery.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::attempt::panic_message;
use crate::lanes::Attempt;
use crate::limits;
use crate::published::Published;
use crate::retry::RetryPolicy;
use crate::sink::{Delivered, SKIPPED, Sink, Undelivered};
use crate::store::key_block::Head;
use crate::store::outbox::Row;

/// What came of an attempt.
pub(super) struct Ran {
    pub(super) attempt: Attempt,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    Delivered,
    Failed(Failed),
    /// It was ended before its receiver had answered.
    Cut,
}

/// Why a row could not be delivered.
pub(super) struct Failed {
    pub(super) head: Head,
    /// For a person.
    pub(super) error: String,
    /// The receiver's own wish for when to try again.
    pub(super) after: Option<Duration>,
}

/// Delivers a row, or says in its place that it is skipped.
pub(super) async fn deliver(sink: Arc<dyn Sink>, attempt: Attempt, cut: CancellationToken) -> Ran {
    let delivery = deliver_row(&*sink, &attempt.row, attempt.is_skipped);
    let outcome = tokio::select! {
        biased;
        delivered = delivery => match delivered {
            Ok(()) => Outcome::Delivered,
            Err(failed) => Outcome::Failed(failed),
        },
        () = cut.cancelled() => Outcome::Cut,
    };
    Ran { attempt, outcome }
}

async fn deliver_row(sink: &dyn Sink, row: &Row, is_skipped: bool) -> Result<(), Failed> {
    let failed = |number: &dyn fmt::Display, undelivered: Undelivered| Failed {
        head: Head {
            outbox_id: row.outbox_id,
            event_id: format!("{}/{number}", row.instance_id),
            instance_id: row.instance_id,
        },
        // What cannot be kept could not be shown.
        error: undelivered.message.replace('\0', "\u{fffd}"),
        after: undelivered.after,
    };
    let event = match published(row) {
        Ok(event) => event,
        // Nobody can be told what it was, and the person who skips it has seen that.
        Err(_) if is_skipped => return Ok(()),
        Err(unreadable) => return Err(failed(&"?", unreadable)),
    };
    let id = format!("{}/{}", row.instance_id, event.number);
    let skipped = is_skipped.then(|| json!({ "skipped": event.kind }).to_string());
    let delivery = sink.deliver(Delivered {
        id: &id,
        kind: if is_skipped { SKIPPED } else { &event.kind },
        workflow: &row.workflow,
        key: &row.key,
        instance_id: row.instance_id,
        number: event.number,
        at: row.at,
        data: skipped.as_deref().unwrap_or(event.data.get()),
    });
    let delivery = AssertUnwindSafe(delivery).catch_unwind();
    let delivered = match tokio::time::timeout(limits::DELIVERY_TIMEOUT, delivery).await {
        Ok(Ok(delivered)) => delivered,
        Ok(Err(panic)) => Err(undelivered(&panic_message(&*panic))),
        Err(_) => Err(undelivered("no answer in time")),
    };
    delivered.map_err(|undelivered| failed(&event.number, undelivered))
}

/// The event of a row, as its record has it.
fn published(row: &Row) -> Result<Published<'_>, Undelivered> {
    let unreadable =
        |why: &dyn fmt::Display| undelivered(&format!("the record's events cannot be read: {why}"));
    let events: Vec<Published<'_>> =
        serde_json::from_str(&row.events).map_err(|error| unreadable(&error))?;
    let ordinal = usize::try_from(row.ordinal).ok();
    let event = ordinal.and_then(|ordinal| events.into_iter().nth(ordinal));
    event.ok_or_else(|| unreadable(&"there are fewer of them"))
}

fn undelivered(message: &str) -> Undelivered {
    Undelivered { message: message.to_owned(), after: None }
}

/// When a failed delivery is tried again: a second to five minutes later.
pub(super) fn retry_at(
    after: Option<Duration>,
    attempts: u32,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let policy = RetryPolicy {
        initial: Duration::from_secs(1),
        delay_max: Duration::from_secs(300),
        attempts_max: u32::MAX,
        jitter: 0.0,
        ..RetryPolicy::default()
    };
    let delay = policy.delay_after(attempts, 0.0).unwrap_or(policy.delay_max);
    let delay = delay.max(after.unwrap_or_default());
    now + TimeDelta::from_std(delay).unwrap_or(TimeDelta::seconds(300))
}
