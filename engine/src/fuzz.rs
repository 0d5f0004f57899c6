//! What must hold of everything that this crate reads, whatever the bytes. For the fuzz targets.

use std::fmt::Write as _;

use chrono::DateTime;
use uuid::Uuid;

use crate::chain;
use crate::history::History;
use crate::money::{Currency, Movement};
use crate::record::{Entry, Record};
use crate::schedule::Timetable;

/// A target: its name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this crate.
pub const TARGETS: &[Target] =
    &[("chain", chain), ("money", money), ("record", record), ("timetable", timetable)];

/// How many firings are followed.
const FIRINGS: usize = 8;
/// Zones whose clocks are changed in different ways, or not at all.
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Singapore",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/St_Johns",
];

/// A stored record is read or refused; what is read is written as it was read, and folded.
fn record(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut history = History::new(Uuid::nil());
    for line in text.lines() {
        let Some((kind, payload)) = line.split_once(' ') else { continue };
        let Ok(entry) = Entry::parse(kind, payload) else { continue };
        assert_eq!(entry.kind(), kind);
        let written = entry.payload().unwrap_or_else(|error| panic!("{line}: {error}"));
        let again = Entry::parse(kind, &written).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(again.payload().ok(), Some(written), "{line}");
        let step = Some("one");
        let made = history.append(step, Some(1), entry, &[], None, DateTime::UNIX_EPOCH);
        assert!(made.is_ok(), "{line}");
    }
    let loaded = History::load(Uuid::nil(), &[]);
    assert!(loaded.is_ok());
}

/// No two records have the same hash: the bytes are cut into fields in two ways.
fn chain(bytes: &[u8]) {
    let [first, second, rest @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(rest);
    let [one, other] = [first, second].map(|cuts| cut(&text, *cuts));
    let hash = |record| chain::hash(Uuid::nil(), record, &chain::GENESIS);
    assert_eq!(hash(&one) == hash(&other), one == other, "{one:?} {other:?}");
}

/// A record of the text, cut in three by six bits; two more bits say what becomes of empty parts.
fn cut(text: &str, cuts: u8) -> Record {
    let part = |share: u8| {
        let length = text.len() * usize::from(share) / 16;
        (0..=length).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
    };
    let (early, late) = (part(cuts & 3), part(cuts >> 2 & 15));
    let (early, late) = (early.min(late), early.max(late));
    let optional = |text: &str| (cuts & 64 == 0 || !text.is_empty()).then(|| text.to_owned());
    Record {
        seq: 0,
        kind: "noted".into(),
        step: optional(&text[..early]),
        attempt: None,
        payload: text[early..late].to_owned(),
        events: optional(&text[late..]),
        actor: (cuts & 128 != 0).then(String::new),
        at: DateTime::UNIX_EPOCH,
        hash: chain::GENESIS,
    }
}

/// Money is read exactly or not at all.
fn money(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(currency) = text.parse::<Currency>() {
        assert_eq!(currency.as_str(), text);
    }
    if let Ok(movement) = serde_json::from_str::<Movement>(text) {
        let written = serde_json::to_string(&movement).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Movement>(&written).ok(), Some(movement));
    }
}

/// An expression that is read fires at times that only go on, each under a key of its own.
fn timetable(bytes: &[u8]) {
    let [zone, a, b, c, d, expression @ ..] = bytes else { return };
    let Ok(expression) = str::from_utf8(expression) else { return };
    let zone = ZONES[usize::from(*zone) % ZONES.len()];
    let Ok(timetable) = Timetable::parse(expression, zone) else { return };
    // From 1970 to 2106, to the second.
    let start = DateTime::UNIX_EPOCH
        + chrono::TimeDelta::seconds(u32::from_be_bytes([*a, *b, *c, *d]).into());
    let (mut before, mut keys) = (start, String::new());
    for _ in 0..FIRINGS {
        let Some(at) = timetable.after(before) else { return };
        assert!(at > before, "{expression} in {zone}: {at} is not after {before}");
        assert_eq!(timetable.between(at, at).collect::<Vec<_>>(), [at], "{expression} in {zone}");
        let key = timetable.key(at);
        assert!(!keys.contains(&key), "{expression} in {zone}: {key} comes twice");
        let _ = writeln!(keys, "{key}");
        before = at;
    }
    let all: Vec<_> = timetable.between(start, before).collect();
    let latest = timetable.latest(2, start, before);
    assert!(all.ends_with(&latest), "{expression} in {zone}: {latest:?}");
}
