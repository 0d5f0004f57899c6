//! Every bound of the engine, and its reason.

use std::time::Duration;

use chrono::TimeDelta;

/// Writes per statement. Beyond this a statement grows longer without growing cheaper per write.
pub(crate) const BATCH_WRITES_MAX: usize = 512;

/// Writes waiting for the committer. What does not fit is refused as overload.
pub(crate) const QUEUE_WRITES_MAX: usize = 16_384;

/// The size of a statement of more than one write.
pub(crate) const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What the writes that wait for the committer may take in memory. What comes in from outside and does
/// not fit is refused as overload; what has happened waits.
pub(crate) const QUEUE_KIB_MAX: usize = 256 * 1024;

/// How long a batch may take before its connection counts as dead. One that takes longer twice is
/// halved; a single write gets [`STATEMENT_TIMEOUT`] then.
pub(crate) const BATCH_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a write may have no answer while its process says that it is ready.
pub(crate) const UNANSWERED_MAX: Duration = Duration::from_secs(5);

/// How long the database may refuse a write, for whatever reason, while it takes others.
pub(crate) const SET_ASIDE_MAX: Duration = Duration::from_secs(10);

/// A payload's size. Larger data belongs elsewhere, with a reference here.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// A business key's, attribute's or delivery id's size: they stand in indexes.
pub(crate) const KEY_BYTES_MAX: usize = 500;

/// A person's reason for a command.
pub(crate) const REASON_BYTES_MAX: usize = 4_000;

/// How long a worker leaves an instance alone whose mail it does not know: long enough to cost
/// nothing, and short enough for a newer build to come by.
pub(crate) const UNKNOWN_MAIL_PAUSE: TimeDelta = TimeDelta::seconds(15);

/// How long mail may wait for a build that knows it. Workers of all builds claim alike, so that one
/// newer worker among many older ones has come by until then.
pub(crate) const UNKNOWN_MAIL_WAIT: TimeDelta = TimeDelta::hours(1);

/// How long the parent of a child waits for a worker that runs the child's version, before that is
/// put to a person: servers may be on their way up.
pub(crate) const CHILD_VERSION_WAIT: TimeDelta = TimeDelta::minutes(5);

/// How often a parent looks whether there still is one, while its child is being undone.
pub(crate) const CHILD_LOOK_PAUSE: TimeDelta = TimeDelta::hours(1);

/// How often what becomes of an instance may fail to be recorded without a pause in between.
pub(crate) const UNSETTLED_MAX: u32 = 3;

/// The longest of those pauses.
pub(crate) const UNSETTLED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Sessions for the statements of the loops.
pub(crate) const LOOP_SESSIONS_MAX: usize = 6;

/// Sessions for the outbox: one for each subscription, so that none waits for another, and one for
/// what they share. There are never fewer than this.
pub(crate) const RELAY_SESSIONS_MIN: usize = 2;

/// Sessions for what people and programs ask to see.
pub(crate) const READING_SESSIONS_MAX: usize = 4;

/// Sessions for transactions: signals, commands.
pub(crate) const TRANSACTIONS_MAX: usize = 8;

/// Sessions for transaction steps: more would only wait for each other in the database.
pub(crate) const TRANSACTION_STEPS_MAX: usize = 8;

/// Records of a history that goes forward. What is longer is put to a person: it would be loaded
/// whole at every claim. Undoing may add to it.
pub(crate) const HISTORY_RECORDS_MAX: u32 = 10_000;

/// Instances that one instance starts on its own behalf, those that it lets go of included. Each adds
/// two records to its history, and a command to it locks them all.
pub(crate) const CHILDREN_MAX: usize = 1_000;

/// How many instances an instance may be below, those included that have let it go: what starts its
/// own kind comes to an end.
pub(crate) const DEPTH_MAX: u32 = 16;

/// Workers lost by one instance without any progress before it is a suspect. The statements of the
/// store and their indexes say the same.
pub(crate) const SUSPECT_LOSSES: i32 = 2;

/// Suspects that a worker tries at a time, by the level of their trials.
pub(crate) const SUSPECTS_AT_ONCE: [usize; 3] = [256, 16, 1];

/// Workers lost by one suspect that was alone on trial before it is put to a person: one may have
/// been lost to something else.
pub(crate) const TRIALS_ALONE_MAX: i32 = 3;

/// Instances that are let through per turn to a dependency without limits.
pub(crate) const TAKEN_UP_MAX: u32 = 256;

/// The share of calls to a dependency with a rate that a worker reserves at a time.
pub(crate) const TURNS_SPAN: Duration = Duration::from_millis(100);

/// Instances claimed by one statement, with their histories.
pub(crate) const CLAIM_MAX: usize = 500;

/// One in so many of a worker's places is for what comes in from outside, not for what is due.
pub(crate) const KEPT_FOR_INTAKE: usize = 4;

/// How long a take-over waits for what its worker has in flight before it comes back later.
pub(crate) const TAKE_OVER_WAIT: Duration = Duration::from_secs(1);

/// How long a statement of the write path may take before its connection counts as dead.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a worker that leaves waits for attempts in flight. With what comes before and after, a
/// server is gone within ten seconds: what stops servers kills them after thirty, or sooner.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(6);

/// How long the database may take to hear that a worker drains.
pub(crate) const DRAIN_BEGIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the database may take to free what a worker held. After that its lease has to lapse.
pub(crate) const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The renewals in a lease. A worker may miss several before it is taken over.
pub(crate) const RENEWALS_PER_LEASE: u32 = 6;

/// How far this machine's clock may be from the database's: key windows and deadlines are judged by
/// both. NTP keeps clocks within a tenth of this.
pub(crate) const CLOCK_OFFSET_MAX: TimeDelta = TimeDelta::seconds(1);

/// Shards of the outbox; the rows of `amends.outbox_shard`.
pub(crate) const SHARDS: u32 = 16;

/// Outbox rows that a feed takes at a time.
pub(crate) const SCAN_MAX: usize = 4096;

/// Outbox rows that a statement looks at to find them: it takes a moment, however many there are.
pub(crate) const PAGE_ROWS_MAX: i64 = 20_000;

/// Outbox rows of a subscription in memory.
pub(crate) const FEED_ROWS_MAX: usize = 8_192;

/// Those of them that stay in memory of a subscription whose receiver takes nothing.
pub(crate) const FEED_ROWS_KEPT: usize = 1_024;

/// Heads that are found to be due at a time.
pub(crate) const DUE_MAX: usize = 128;

/// The same, while their receiver takes nothing.
pub(crate) const DUE_PROBES_MAX: usize = 8;

/// Blocked keys that are written, or forgotten, by a statement.
pub(crate) const BLOCKS_MAX: usize = 2_048;

/// How long a subscription may be gone before its events are taken out of the outbox: servers may be
/// on their way up.
pub(crate) const SUBSCRIPTION_GONE_WAIT: TimeDelta = TimeDelta::minutes(10);

/// How often a worker looks for such events.
pub(crate) const LEFTOVER_PAUSE: Duration = Duration::from_secs(60);

/// Outbox rows that are moved per statement.
pub(crate) const LEFTOVER_BATCH: i64 = 10_000;

/// How long a sink may take over one event.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// Deliveries of a subscription under way at once.
pub(crate) const DELIVERIES_MAX: usize = 64;

/// Those of them that may be of what has been tried before, or has waited for long: there is always
/// room for what is new.
pub(crate) const OLD_DELIVERIES_MAX: usize = 48;

/// The name of a schedule: it stands in keys, together with a time.
pub(crate) const SCHEDULE_NAME_BYTES_MAX: usize = 100;

/// Missed firings of a schedule that are caught up at once.
pub(crate) const CATCH_UP_MAX: u32 = 1_000;

/// Firings that one backfill may ask for.
pub(crate) const BACKFILL_MAX: usize = 1_000;

/// Firings and commands that are shown with a schedule.
pub(crate) const SHOWN_MAX: i64 = 20;

/// Why a text cannot be stored, if it cannot.
pub(crate) fn refuse_key(what: &str, text: &str) -> Option<String> {
    if text.is_empty() {
        Some(format!("{what} is empty"))
    } else if text.len() > KEY_BYTES_MAX {
        Some(format!("{what} is longer than {KEY_BYTES_MAX} bytes"))
    } else if text.chars().any(char::is_control) {
        Some(format!("{what} contains control characters"))
    } else {
        None
    }
}

/// Why a person cannot be recorded with a reason, if so.
pub(crate) fn refuse_person(actor: &str, reason: &str) -> Option<String> {
    refuse_key("the actor", actor).or_else(|| refuse_text("the reason", reason))
}

/// Why what a person says cannot be kept, if it cannot.
pub(crate) fn refuse_text(what: &str, text: &str) -> Option<String> {
    let fits = (1..=REASON_BYTES_MAX).contains(&text.len()) && !text.contains('\0');
    (!fits).then(|| format!("{what} must have 1 to {REASON_BYTES_MAX} bytes, none of them NUL"))
}

/// Why a line that a person writes cannot be kept, if it cannot.
pub(crate) fn refuse_line(what: &str, text: &str) -> Option<String> {
    let fits = !text.trim().is_empty() && !text.chars().any(char::is_control);
    let refusal = (!fits).then(|| format!("{what} must be a line that says something"));
    refusal.or_else(|| refuse_text(what, text))
}

/// Why JSON cannot be stored, if it cannot.
pub(crate) fn refuse_payload(json: &str) -> Option<String> {
    (json.len() > PAYLOAD_BYTES_MAX)
        .then(|| format!("{} bytes are more than {PAYLOAD_BYTES_MAX}", json.len()))
}
