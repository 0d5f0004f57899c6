//! Wrong tokens and signatures: where they come from, how often, and how late they are answered.
//!
//! Counted by the minute. Of a minute nothing is left in the next one, so that what strangers make
//! this remember is bounded by how many addresses are told apart.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::listen::one_client;
use crate::metrics::BadCredential;

/// How long is counted together.
const MINUTE: Duration = Duration::from_secs(60);
/// How many an address may send in a minute before it is answered late.
const AT_ONCE_MAX: u64 = 10;
/// How late.
const PAUSE: Duration = Duration::from_secs(1);
/// How many addresses are told apart in a minute. All that come after them count as one.
const ADDRESSES_MAX: usize = 4096;
/// How many lines are logged in a minute.
const LINES_MAX: u64 = 20;

/// What was sent that is wrong.
#[derive(Default)]
pub(crate) struct Guesses(Mutex<Minute>);

#[derive(Default)]
struct Minute {
    since: Option<Instant>,
    all: u64,
    lines: u64,
    by_address: HashMap<Option<IpAddr>, u64>,
}

/// What is to be done about a guess.
#[derive(Debug, PartialEq, Eq)]
struct Guess {
    /// How many came from the address within the minute.
    count: u64,
    /// Whether that is worth a line.
    is_logged: bool,
    /// How many came in the minute before, if not all of them were worth a line.
    before: Option<u64>,
}

impl Guesses {
    /// Counts what came from an address, and says how long its answer is held back.
    pub(crate) fn made(
        &self,
        address: Option<IpAddr>,
        bad: BadCredential,
        now: Instant,
    ) -> Duration {
        let guess = self.0.lock().unwrap_or_else(PoisonError::into_inner).judge(address, now);
        let Guess { count, is_logged, before } = guess;
        if let Some(before) = before {
            tracing::warn!(
                before,
                "refused {before} requests with a wrong token or signature within a minute"
            );
        }
        if is_logged {
            let address = address.map_or_else(|| "nowhere".to_owned(), |it| it.to_string());
            let reason = bad.in_words();
            tracing::warn!(
                %address, reason, count,
                "refused a request from {address}: {reason}; {count} within a minute"
            );
        }
        if count > AT_ONCE_MAX { PAUSE } else { Duration::ZERO }
    }
}

impl Minute {
    fn judge(&mut self, address: Option<IpAddr>, now: Instant) -> Guess {
        let is_over = self.since.is_some_and(|since| now >= since + MINUTE);
        let before = (is_over && self.all > self.lines).then_some(self.all);
        if is_over {
            *self = Self::default();
        }
        self.since.get_or_insert(now);
        self.all += 1;
        let mut address = address.map(one_client);
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&address) {
            address = None;
        }
        let count = self.by_address.entry(address).or_default();
        *count += 1;
        let count = *count;
        // The first, the tenth, the hundredth.
        let is_power = 10_u64.checked_pow(count.ilog10()) == Some(count);
        let is_logged = is_power && self.lines < LINES_MAX;
        self.lines += u64::from(is_logged);
        Guess { count, is_logged, before }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    #[tokio::test]
    async fn an_address_that_goes_on_guessing_is_slowed_down_and_no_other() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let made = |from, now| guesses.made(Some(address(from)), BadCredential::UnknownToken, now);
        let pauses: Vec<_> = (0..12).map(|_| made(1, now)).collect();
        assert_eq!(pauses.iter().filter(|pause| pause.is_zero()).count(), 10);
        assert_eq!(pauses[11], PAUSE);
        assert_eq!(made(2, now), Duration::ZERO);
        assert_eq!(made(1, now + MINUTE), Duration::ZERO);
    }

    #[tokio::test]
    async fn lines_of_the_log_are_few_however_many_guess() {
        let (mut minute, now) = (Minute::default(), Instant::now());
        let mut logged = |from: u32, times: u32, now| {
            (0..times).filter(|_| minute.judge(Some(address(from)), now).is_logged).count()
        };
        assert_eq!(logged(0, 1000, now), 4);
        assert_eq!((1..100).map(|from| logged(from, 1, now)).sum::<usize>(), 16);
        assert_eq!(logged(0, 1, now + MINUTE), 1);
    }

    #[tokio::test]
    async fn a_minute_remembers_so_many_addresses_and_says_afterwards_how_many_came() {
        let (mut minute, now) = (Minute::default(), Instant::now());
        for from in 0..10_000 {
            minute.judge(Some(address(from)), now);
        }
        assert_eq!(minute.by_address.len(), ADDRESSES_MAX + 1);
        let next = minute.judge(Some(address(0)), now + MINUTE);
        assert_eq!(next, Guess { count: 1, is_logged: true, before: Some(10_000) });
        assert_eq!(minute.by_address.len(), 1);
    }
}
