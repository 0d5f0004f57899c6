//! What an instance waits for, in words: as far as its row and its last step tell.

use amends::Status;
use chrono::{DateTime, Utc};

use super::words;

/// What an instance waits for; `None` if it waits for nothing, or for a person to decide.
pub(crate) fn waits(
    status: Status,
    held: bool,
    parked_on: Option<&str>,
    step: Option<&str>,
    run_at: Option<DateTime<Utc>>,
) -> Option<String> {
    if status.is_terminal() {
        return None;
    }
    if held {
        return Some("is held: nothing more is begun until somebody releases it".to_owned());
    }
    if let Some(dependency) = parked_on {
        return Some(format!("waits for {dependency}, which is down or takes no more calls now"));
    }
    match (status, step.and_then(|step| step.split_once(':')), run_at) {
        (Status::Waiting, Some(("wait", _)), until) => Some(for_signal(step?, until)),
        (Status::Waiting, Some(("timer", _)), Some(until)) => Some(sleeps(until)),
        (Status::Waiting | Status::Compensating, Some(("child", _)), None) => {
            Some(format!("waits for {} to end", words::called(step?)))
        }
        (Status::Waiting | Status::Compensating, _, Some(until)) => {
            Some(format!("waits until {} to go on", time(until)))
        }
        _ => None,
    }
}

/// `waits for the signal parcel_packed, at most until 2026-11-18 14:05:00 UTC`
pub(super) fn for_signal(step: &str, until: Option<DateTime<Utc>>) -> String {
    let limit = until.map_or_else(
        || "for as long as it takes".to_owned(),
        |until| format!("at most until {}", time(until)),
    );
    format!("waits for {}, {limit}", words::called(step))
}

/// `sleeps until 2026-11-18 14:05:00 UTC`
pub(super) fn sleeps(until: DateTime<Utc>) -> String {
    format!("sleeps until {}", time(until))
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_says_plainly_what_it_waits_for() {
        let at = DateTime::parse_from_rfc3339("2026-11-18T22:05:00+08:00").ok();
        let at = at.map(|at| at.to_utc());
        let told =
            |status, step, run_at| waits(status, false, None, step, run_at).unwrap_or_default();
        for (status, step, run_at, text) in [
            (
                Status::Waiting,
                Some("wait:parcel_packed"),
                at,
                "waits for the signal parcel_packed, at most until 2026-11-18 14:05:00 UTC",
            ),
            (
                Status::Waiting,
                Some("wait:parcel_packed#2"),
                None,
                "waits for the signal parcel_packed (no. 2), for as long as it takes",
            ),
            (Status::Waiting, Some("timer:sleep"), at, "sleeps until 2026-11-18 14:05:00 UTC"),
            (Status::Waiting, Some("child:pack"), None, "waits for the instance pack to end"),
            (Status::Waiting, Some("charge"), at, "waits until 2026-11-18 14:05:00 UTC to go on"),
            (
                Status::Compensating,
                Some("ship"),
                at,
                "waits until 2026-11-18 14:05:00 UTC to go on",
            ),
            (Status::Running, Some("wait:parcel_packed"), None, ""),
            (Status::Stuck, Some("charge"), None, ""),
            (Status::Completed, Some("notify"), None, ""),
        ] {
            assert_eq!(told(status, step, run_at), text, "{status} {step:?}");
        }
    }

    #[test]
    fn what_waits_for_a_dependency_names_it() {
        let told = waits(Status::Waiting, false, Some("carrier"), Some("charge"), None);
        let text = "waits for carrier, which is down or takes no more calls now";
        assert_eq!(told.as_deref(), Some(text));
    }

    #[test]
    fn a_hold_is_told_first_and_only_before_the_end() {
        for status in Status::ALL {
            let told = waits(status, true, Some("carrier"), Some("timer:sleep"), None);
            let held = told.is_some_and(|text| text.starts_with("is held"));
            assert_eq!(held, !status.is_terminal(), "{status}");
        }
    }
}
