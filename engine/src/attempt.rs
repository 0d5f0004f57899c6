//! What an attempt's end means: whether, and when, there is another one. Pure.

use std::any::Any;

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use tokio::time::error::Elapsed;
use uuid::Uuid;

use crate::record::AttemptOutcome;
use crate::retry::RetryPolicy;
use crate::sabotage::Bug;
use crate::step::{Effect, Failure, StepError};

/// How an attempt ended, and when the next one is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attempted {
    pub(crate) outcome: AttemptOutcome,
    /// None: there is no next one.
    pub(crate) retry_at: Option<DateTime<Utc>>,
}

/// Decides about the next attempt. `failed` counts failed attempts, this one included.
pub(crate) fn next_attempt(
    error: &StepError,
    failed: u32,
    policy: &RetryPolicy,
    effect: Effect,
    chance: f64,
    now: DateTime<Utc>,
) -> Attempted {
    let (outcome, wish) = match error {
        StepError::Fail(_) => return Attempted { outcome: AttemptOutcome::Fail, retry_at: None },
        StepError::Refused(_) => {
            return Attempted { outcome: AttemptOutcome::Refused, retry_at: None };
        }
        StepError::Retry { after, .. } => (AttemptOutcome::Retry, *after),
        StepError::Unknown(_) if Bug::UnknownIsNotDone.is_on() => (AttemptOutcome::Retry, None),
        StepError::Unknown(_) => (AttemptOutcome::Unknown, None),
    };
    let quiet = match (outcome, effect) {
        // Nobody may try this again but a person.
        (AttemptOutcome::Unknown, Effect::AtMostOnce) => {
            return Attempted { outcome, retry_at: None };
        }
        // The provider is asked first, and not before it can know.
        (AttemptOutcome::Unknown, Effect::Queryable { quiet }) => Some(quiet),
        _ => None,
    };
    let retry_at = policy
        .delay_after(failed, chance)
        .map(|delay| delay.max(wish.unwrap_or_default()).max(quiet.unwrap_or_default()))
        .and_then(|delay| TimeDelta::from_std(delay).ok())
        .and_then(|delay| now.checked_add_signed(delay));
    Attempted { outcome, retry_at }
}

/// A number in 0..1 that depends on nothing but the attempt, so that a schedule can be replayed
/// and instances that failed together do not come back together.
pub(crate) fn chance(instance_id: Uuid, key: &str, attempt: u32) -> f64 {
    let mut hasher = Sha256::new();
    hasher.update(instance_id.as_bytes());
    hasher.update(key.as_bytes());
    hasher.update(attempt.to_be_bytes());
    let digest = hasher.finalize();
    let drawn = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(drawn) / (f64::from(u32::MAX) + 1.0)
}

/// A result, unless there was a panic instead.
type Caught<T> = Result<T, Box<dyn Any + Send>>;

/// What came of a call that could also run out of time or panic: then nobody knows.
pub(crate) fn judge<T>(
    called: Result<Caught<Result<T, StepError>>, Elapsed>,
) -> Result<T, StepError> {
    match called {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(StepError::unknown("STEP_PANICKED", panic_message(&*panic))),
        Err(_) => Err(StepError::unknown("STEP_TIMED_OUT", "no answer within the step's time-out")),
    }
}

/// The message of a panic, if it has one.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// A failure that says which compensation cannot be brought to its end.
pub(crate) fn compensation_failed(step: &str, failure: &Failure) -> Failure {
    Failure::new("COMPENSATION_FAILED", format!("{step} could not be undone: {failure}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const ONCE: Effect = Effect::Idempotent { key_window: None };

    fn next(error: &StepError, failed: u32, effect: Effect) -> Attempted {
        let policy = RetryPolicy { jitter: 0.0, attempts_max: 3, ..RetryPolicy::default() };
        next_attempt(error, failed, &policy, effect, 0.0, DateTime::UNIX_EPOCH)
    }

    fn at(milliseconds: i64) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(milliseconds)
    }

    #[test]
    fn a_failure_for_good_is_not_tried_again() {
        for (error, outcome) in [
            (StepError::fail("X", "x"), AttemptOutcome::Fail),
            (StepError::refused("X", "x"), AttemptOutcome::Refused),
        ] {
            assert_eq!(next(&error, 1, ONCE), Attempted { outcome, retry_at: None });
        }
    }

    #[test]
    fn retries_follow_the_policy_until_it_is_spent() {
        let error = StepError::retry("X", "x");
        assert_eq!(next(&error, 1, ONCE).retry_at, at(500));
        assert_eq!(next(&error, 2, ONCE).retry_at, at(1000));
        assert_eq!(next(&error, 3, ONCE).retry_at, None);
    }

    #[test]
    fn a_provider_may_ask_for_more_time_but_not_for_less() {
        let wish = |seconds| StepError::Retry {
            failure: Failure::new("X", "x"),
            after: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(next(&wish(30), 1, ONCE).retry_at, at(30_000));
        assert_eq!(next(&wish(0), 1, ONCE).retry_at, at(500));
    }

    proptest! {
        #[test]
        fn nobody_is_called_again_too_early_too_often_or_when_he_must_not_be(
            failed in 1..6_u32, wish in 0..100_000_u64, quiet in 0..100_000_u64,
            chance in 0.0..1.0_f64, error in 0..4_u8, effect in 0..4_u8,
        ) {
            let (wish, quiet) = (Duration::from_secs(wish), Duration::from_secs(quiet));
            let effects = [ONCE, Effect::Queryable { quiet }, Effect::AtMostOnce, Effect::Transaction];
            let effect = effects[usize::from(effect)];
            let retry = StepError::Retry { failure: Failure::new("X", "x"), after: Some(wish) };
            let (fail, refused) = (StepError::fail("X", "x"), StepError::refused("X", "x"));
            let errors = [retry, fail, refused, StepError::unknown("X", "x")];
            let error = &errors[usize::from(error)];
            let policy = RetryPolicy { attempts_max: 3, ..RetryPolicy::default() };
            let now = DateTime::UNIX_EPOCH;
            let ended = next_attempt(error, failed, &policy, effect, chance, now);
            let is_unknown = matches!(error, StepError::Unknown(_));
            let is_forbidden = is_unknown && effect == Effect::AtMostOnce;
            let is_for_good = matches!(error, StepError::Fail(_) | StepError::Refused(_));
            let is_last = failed >= 3 || is_for_good || is_forbidden;
            prop_assert_eq!(ended.retry_at.is_none(), is_last);
            if let Some(retry_at) = ended.retry_at {
                let asked = if is_unknown { Duration::ZERO } else { wish };
                let shown = if is_unknown && effect == effects[1] { quiet } else { Duration::ZERO };
                prop_assert!(retry_at - now >= TimeDelta::from_std(asked.max(shown)).unwrap());
            }
        }

        #[test]
        fn chance_is_a_share_and_the_same_for_the_same_attempt(id: u128, attempt: u32) {
            let drawn = chance(Uuid::from_u128(id), "charge", attempt);
            prop_assert!((0.0..1.0).contains(&drawn));
            prop_assert!(drawn.to_bits() == chance(Uuid::from_u128(id), "charge", attempt).to_bits());
        }
    }

    #[test]
    fn an_unknown_outcome_waits_for_its_quiet_period_or_for_a_person() {
        let error = StepError::unknown("X", "x");
        let queryable = Effect::Queryable { quiet: Duration::from_secs(90) };
        assert_eq!(next(&error, 1, queryable).retry_at, at(90_000));
        assert_eq!(next(&error, 1, Effect::AtMostOnce).retry_at, None);
        assert_eq!(next(&error, 1, ONCE).retry_at, at(500));
    }
}
