//! The receiver's wish for when to try again.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{DATE, RETRY_AFTER};
use chrono::DateTime;

/// No receiver may make events wait longer than this.
const AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Reads `Retry-After`: seconds, or a date, which is measured by the receiver's own clock.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse() {
        Ok(seconds) => seconds,
        Err(_) => {
            let now = DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok()?;
            let then = DateTime::parse_from_rfc2822(text).ok()?;
            u64::try_from((then - now).num_seconds()).ok()?
        }
    };
    Some(Duration::from_secs(seconds).min(AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn seconds(after: &'static str, date: &'static str) -> Option<u64> {
        let pairs = [(RETRY_AFTER, after), (DATE, date)];
        let headers = pairs.map(|(name, value)| (name, HeaderValue::from_static(value)));
        retry_after(&headers.into_iter().collect()).map(|after| after.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_understood_and_bounded() {
        let now = "Wed, 18 Nov 2026 11:06:41 GMT";
        assert_eq!(seconds("120", now), Some(120));
        assert_eq!(seconds("0", now), Some(0));
        assert_eq!(seconds("999999", now), Some(3_600));
        assert_eq!(seconds("Wed, 18 Nov 2026 11:07:41 GMT", now), Some(60));
        assert_eq!(seconds("Wed, 18 Nov 2026 11:05:41 GMT", now), None);
        assert_eq!(seconds("soon", now), None);
        assert_eq!(seconds("-1", now), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
