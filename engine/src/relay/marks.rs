//! An order of what a feed does, also where time stands still. Pure.

use chrono::{DateTime, TimeDelta, Utc};

/// Times of which each is later than the one before.
#[derive(Debug, Default)]
pub(super) struct Marks {
    last: DateTime<Utc>,
}

impl Marks {
    /// The present, or a little later.
    pub(super) fn next(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.next_after(now, None)
    }

    /// The same, and not before `other`.
    pub(super) fn next_after(
        &mut self,
        now: DateTime<Utc>,
        other: Option<DateTime<Utc>>,
    ) -> DateTime<Utc> {
        let later = self.last + TimeDelta::microseconds(1);
        self.last = now.max(later).max(other.unwrap_or(later));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_later_than_all_before_it() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::hours(1);
        let mut marks = Marks::default();
        assert_eq!(marks.next(now), now);
        let second = marks.next(now);
        assert!(second > now);
        let of_another = now + TimeDelta::seconds(3);
        assert_eq!(marks.next_after(now, Some(of_another)), of_another);
        assert!(marks.next(now) > of_another);
    }
}
