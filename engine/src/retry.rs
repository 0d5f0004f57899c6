//! When to try again: a pure schedule, so that only the number of the attempt is stored.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// Exponential delays with a cap, jitter, and an end.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The delay after the first failed attempt.
    pub initial: Duration,
    /// What each further delay is multiplied with; at least 1.
    pub factor: f64,
    /// No delay is longer.
    pub delay_max: Duration,
    /// How many attempts are made in all; at least 1.
    pub attempts_max: u32,
    /// The share of a delay that chance may take away, 0 to 1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    /// 5 attempts over about 8 s: 0.5, 1, 2 and 4 s.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            factor: 2.0,
            delay_max: Duration::from_secs(60),
            attempts_max: 5,
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// 30 attempts over about 17 hours, half a second to an hour apart: for what has to succeed in
    /// the end.
    #[must_use]
    pub fn persistent() -> Self {
        Self { delay_max: Duration::from_secs(3600), attempts_max: 30, ..Self::default() }
    }

    /// `attempts_max` attempts with no delay between them.
    #[must_use]
    pub fn immediate(attempts_max: u32) -> Self {
        Self { initial: Duration::ZERO, attempts_max, jitter: 0.0, ..Self::default() }
    }

    /// The delay before the attempt that follows failed attempt number `attempt` (from 1), or
    /// `None` if that was the last one. `chance` is uniform in 0..1.
    #[must_use]
    pub fn delay_after(&self, attempt: u32, chance: f64) -> Option<Duration> {
        if attempt >= self.attempts_max {
            return None;
        }
        let mut schedule = ExponentialBackoff {
            current_interval: self.initial,
            initial_interval: self.initial,
            // Chance is a parameter here, so that a schedule can be replayed and tested.
            randomization_factor: 0.0,
            multiplier: self.factor.max(1.0),
            max_interval: self.delay_max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut delay = schedule.next_backoff()?;
        for _ in 1..attempt {
            if delay >= self.delay_max {
                break;
            }
            delay = schedule.next_backoff()?;
        }
        let kept = 1.0 - self.jitter.clamp(0.0, 1.0) * chance.clamp(0.0, 1.0);
        Some(delay.min(self.delay_max).mul_f64(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_double_up_to_the_cap_and_end_with_the_last_attempt() {
        let policy = RetryPolicy {
            initial: Duration::from_secs(1),
            delay_max: Duration::from_secs(5),
            attempts_max: 6,
            ..RetryPolicy::default()
        };
        let delays: Vec<_> = (1..=6).map(|attempt| policy.delay_after(attempt, 0.0)).collect();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(delays, [seconds(1), seconds(2), seconds(4), seconds(5), seconds(5), None]);
    }

    proptest! {
        #[test]
        fn jitter_only_shortens_and_never_beyond_its_share(
            attempt in 1_u32..40, chance in 0.0_f64..1.0, jitter in 0.0_f64..=1.0,
        ) {
            let policy = RetryPolicy { jitter, attempts_max: 50, ..RetryPolicy::default() };
            let full = policy.delay_after(attempt, 0.0).unwrap();
            let drawn = policy.delay_after(attempt, chance).unwrap();
            prop_assert!(drawn <= full && full <= policy.delay_max);
            prop_assert!(drawn >= full.mul_f64((1.0 - jitter).max(0.0)));
        }
    }
}
