//! What the history answers when `run` asks for a step.
//!
//! Pure. A step is found by name and occurrence, never by position. What is recorded is not run
//! again; what does not fit the record is put to a person.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use crate::history::{Progress, RecordedStep};
use crate::sabotage::Bug;
use crate::step::{Effect, Failure};

/// What to do about a step that `run` asks for.
#[derive(Debug)]
pub(crate) enum Memo {
    /// It is done; this is its output.
    Done(Box<RawValue>),
    /// It has failed for good.
    Failed(Failure),
    /// Make attempt number `attempt`, not before `due`.
    Attempt { attempt: u32, due: Option<DateTime<Utc>> },
    /// Ask the provider what became of the last attempt, not before `due`.
    Probe { attempt: u32, due: Option<DateTime<Utc>> },
    /// A person has to decide.
    Stick(Failure),
    /// This is not what is recorded.
    Diverged(Divergence),
}

/// Where a history and a run of this build part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The recorded step that does not fit.
    pub step: String,
    /// What the history says.
    pub expected: String,
    /// What the run says.
    pub found: String,
}

impl Divergence {
    /// The run asks with another input.
    pub(crate) fn input(key: &str, recorded: &RawValue, asked: &RawValue) -> Self {
        Self {
            step: key.to_owned(),
            expected: format!("the input {}", shortened(recorded.get())),
            found: format!("the input {}", shortened(asked.get())),
        }
    }

    /// The run does not ask for what is recorded under a key.
    pub(crate) fn unasked(key: &str, found: String) -> Self {
        Self { step: key.to_owned(), expected: key.to_owned(), found }
    }
}

impl From<Divergence> for Failure {
    fn from(Divergence { step, expected, found }: Divergence) -> Self {
        let message = format!("at step {step}: expected {expected}, found {found}");
        Self::new("DIVERGED", message)
    }
}

impl Memo {
    /// The number of the attempt that this memo leads to, at once or after a person has decided.
    pub(crate) fn next_attempt(&self) -> Option<u32> {
        match self {
            Self::Attempt { attempt, .. } | Self::Probe { attempt, .. } => Some(*attempt),
            Self::Done(_) | Self::Failed(_) | Self::Stick(_) | Self::Diverged(_) => None,
        }
    }
}

/// Answers for `step`, asked with `input`, at `now`.
pub(crate) fn recall(
    step: Option<&RecordedStep>,
    input: &RawValue,
    effect: Effect,
    now: DateTime<Utc>,
) -> Memo {
    let Some(step) = step else {
        return Memo::Attempt { attempt: 1, due: None };
    };
    if step.input.get() != input.get() {
        return Memo::Diverged(Divergence::input(&step.key, &step.input, input));
    }
    let unknown = (step.unknown || step.begun) && !Bug::AtMostOnceAgain.is_on();
    match (&step.progress, effect) {
        (Progress::Done { output }, _) => return Memo::Done(output.clone()),
        (_, Effect::AtMostOnce) if unknown => return Memo::Stick(outcome_unknown(step)),
        (Progress::Failed { failure }, _) => return Memo::Failed(failure.clone()),
        (Progress::Open, Effect::Idempotent { key_window: Some(window) }) if unknown => {
            // Half of the window is left to the clocks of others and to attempts under way.
            let closes = TimeDelta::from_std(window / 2)
                .ok()
                .and_then(|half| step.first_at.checked_add_signed(half));
            if closes.is_some_and(|closes| now >= closes) {
                return Memo::Stick(Failure::new(
                    "KEY_WINDOW_CLOSED",
                    format!(
                        "the outcome of {} is unknown, and the provider may have forgotten its key",
                        step.key
                    ),
                ));
            }
        }
        (Progress::Open, _) => {}
    }
    let (attempt, due) = (step.attempts.total + 1, step.attempts.retry_at);
    match effect {
        Effect::Queryable { quiet } if step.unknown => {
            // Not before the provider can know, whatever people want.
            let quiet = TimeDelta::from_std(quiet).ok();
            let asked_from = quiet.and_then(|quiet| step.doubted_at.checked_add_signed(quiet));
            Memo::Probe { attempt: attempt - 1, due: due.max(asked_from) }
        }
        _ => Memo::Attempt { attempt, due },
    }
}

fn outcome_unknown(step: &RecordedStep) -> Failure {
    let last = step.attempts.last.as_ref();
    Failure::new(
        "OUTCOME_UNKNOWN",
        format!(
            "nobody knows whether {} was applied ({}); find out before going on",
            step.key,
            last.map_or_else(|| "its worker was lost".to_owned(), ToString::to_string),
        ),
    )
}

/// Enough of a JSON text to recognise it by.
fn shortened(json: &str) -> String {
    const CHARACTERS_MAX: usize = 120;
    let mut short: String = json.chars().take(CHARACTERS_MAX).collect();
    if short.len() < json.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;
    use crate::history::History;
    use crate::step::StepError;
    use std::time::Duration;
    use uuid::Uuid;

    const ONCE: Effect = Effect::Idempotent { key_window: None };

    fn ask(make: impl FnOnce(&mut History), input: &str, effect: Effect, seconds: i64) -> Memo {
        let mut history = History::new(Uuid::nil());
        make(&mut history);
        let input = RawValue::from_string(input.to_owned()).unwrap();
        let now = DateTime::from_timestamp(seconds, 0).unwrap();
        recall(history.ask("charge"), &input, effect, now)
    }

    const SAME: &str = r#"{"amount":1}"#;

    fn unknown(history: &mut History) {
        let later = DateTime::from_timestamp(1, 0);
        fake::failed(history, "charge", &StepError::unknown("X", "x"), later);
    }

    fn stuck(memo: Memo) -> String {
        match memo {
            Memo::Stick(failure) => failure.code.into_owned(),
            Memo::Diverged(divergence) => Failure::from(divergence).code.into_owned(),
            other => panic!("not stuck: {other:?}"),
        }
    }

    #[test]
    fn what_is_not_recorded_is_attempted_first() {
        assert!(matches!(ask(|_| (), SAME, ONCE, 0), Memo::Attempt { attempt: 1, due: None }));
    }

    #[test]
    fn what_is_done_answers_from_the_record() {
        let memo = ask(|history| fake::done(history, "charge"), SAME, ONCE, 0);
        assert!(matches!(memo, Memo::Done(output) if output.get() == SAME));
    }

    #[test]
    fn another_input_is_put_to_a_person_whatever_is_recorded() {
        let done = ask(|history| fake::done(history, "charge"), r#"{"amount":2}"#, ONCE, 0);
        assert_eq!(stuck(done), "DIVERGED");
        assert_eq!(stuck(ask(unknown, r#"{"amount":2}"#, ONCE, 0)), "DIVERGED");
    }

    #[test]
    fn an_unknown_outcome_is_resolved_as_the_effect_allows() {
        assert!(matches!(ask(unknown, SAME, ONCE, 0), Memo::Attempt { attempt: 2, .. }));
        let queryable = Effect::Queryable { quiet: Duration::from_secs(1) };
        assert!(matches!(ask(unknown, SAME, queryable, 0), Memo::Probe { attempt: 1, .. }));
        assert_eq!(stuck(ask(unknown, SAME, Effect::AtMostOnce, 0)), "OUTCOME_UNKNOWN");
    }

    #[test]
    fn a_key_is_not_used_again_after_half_of_its_window() {
        let window = Effect::Idempotent { key_window: Some(Duration::from_secs(100)) };
        assert!(matches!(ask(unknown, SAME, window, 49), Memo::Attempt { .. }));
        assert_eq!(stuck(ask(unknown, SAME, window, 50)), "KEY_WINDOW_CLOSED");
    }

    #[test]
    fn a_lost_worker_is_no_attempt_but_leaves_a_doubt() {
        let interrupted = |history: &mut History| fake::interrupted(history, "charge");
        assert!(matches!(ask(interrupted, SAME, ONCE, 0), Memo::Attempt { attempt: 2, .. }));
        let mut history = History::new(Uuid::nil());
        interrupted(&mut history);
        let step = history.step("charge").unwrap();
        assert_eq!((step.attempts.counted, step.unknown), (0, true));
    }
}
