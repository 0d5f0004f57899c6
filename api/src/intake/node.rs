//! Reads JSON that a platform has signed, however odd the parts are that nobody reads.
//!
//! Objects are taken apart one level at a time, and only where somebody looks. So what is never
//! read may hold NUL, name a member twice, nest without end or be of any type. What is read and
//! makes no sense is noted with its place, and counts as missing.

use std::borrow::Cow;
use std::cell::RefCell;

use amends::intake_case::CaseProblem;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What was wrong with what was read.
#[derive(Debug, Default)]
pub(crate) struct Flaws(RefCell<Vec<CaseProblem>>);

impl Flaws {
    /// Notes what is wrong at a place.
    pub(crate) fn note(&self, problem: CaseProblem) {
        self.0.borrow_mut().push(problem);
    }

    /// All of them.
    pub(crate) fn into_vec(self) -> Vec<CaseProblem> {
        self.0.into_inner()
    }
}

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    raw: &'a RawValue,
    pointer: String,
    flaws: &'a Flaws,
}

/// The members of an object, in their order, as they stand.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((name.0, value));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(InOrder).map(Self)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Node<'a> {
    /// The whole of a body. None: it is not a JSON object, which is noted.
    pub(crate) fn read(text: &'a str, flaws: &'a Flaws) -> Option<Self> {
        let raw = serde_json::from_str::<&RawValue>(text.trim_start_matches('\u{feff}'));
        let node = raw.ok().map(|raw| Self { raw, pointer: String::new(), flaws });
        let object = node.filter(|node| node.raw.get().starts_with('{'));
        if object.is_none() {
            flaws.note(problem("", "the body is not a JSON object"));
        }
        object
    }

    /// Where it stands, as a JSON pointer.
    pub(crate) fn pointer(&self) -> &str {
        &self.pointer
    }

    /// A member that is there and not null.
    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        if !self.raw.get().starts_with('{') {
            return None;
        }
        let pointer = format!("{}/{name}", self.pointer);
        let Ok(Members(members)) = serde_json::from_str::<Members<'a>>(self.raw.get()) else {
            self.wrong("cannot be read");
            return None;
        };
        let mut named = members.into_iter().filter(|(its_name, _)| its_name == name);
        let (_, raw) = named.next()?;
        if named.next().is_some() {
            self.flaws.note(problem(&pointer, "is there twice"));
            return None;
        }
        (raw.get() != "null").then_some(Self { raw, pointer, flaws: self.flaws })
    }

    /// The member at the end of a path of names.
    pub(crate) fn at(&self, path: &[&str]) -> Option<Self> {
        path.iter().try_fold(self.clone(), |node, name| node.member(name))
    }

    /// The entries of an array.
    pub(crate) fn entries(&self) -> Vec<Self> {
        let Ok(entries) = serde_json::from_str::<Vec<&'a RawValue>>(self.raw.get()) else {
            self.wrong("has to be a list");
            return Vec::new();
        };
        let entry = |(index, raw): (usize, &'a RawValue)| {
            let pointer = format!("{}/{index}", self.pointer);
            Self { raw, pointer, flaws: self.flaws }
        };
        entries.into_iter().enumerate().map(entry).collect()
    }

    /// Text, or the digits of a number, without blanks around it and without what no database and
    /// no label can hold. None: it is empty, or no text, which is noted.
    pub(crate) fn text(&self) -> Option<String> {
        let raw = self.raw.get();
        let text = match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<String>(raw).ok(),
            Some(b'-' | b'0'..=b'9') => Some(raw.to_owned()),
            _ => None,
        };
        let Some(text) = text else {
            self.wrong("has to be text");
            return None;
        };
        let text: String = text.chars().filter(|it| !it.is_control() || *it == '\n').collect();
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// A whole number, be it written with a fraction of nothing.
    pub(crate) fn count(&self) -> Option<u32> {
        let text = self.text()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
        let count = whole.parse().ok().filter(|_| fraction.bytes().all(|digit| digit == b'0'));
        if count.is_none() {
            self.wrong("has to be a whole number that is not negative");
        }
        count
    }

    /// Whether it is true.
    pub(crate) fn is_true(&self) -> bool {
        matches!(self.raw.get(), "true" | "\"true\"")
    }

    /// Notes that it makes no sense.
    pub(crate) fn wrong(&self, detail: &str) {
        self.flaws.note(problem(&self.pointer, detail));
    }
}

/// Something wrong at a place, that nobody can fill in anywhere.
pub(crate) fn problem(pointer: &str, detail: &str) -> CaseProblem {
    CaseProblem { pointer: pointer.to_owned(), field: None, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaws(text: &str, look: impl Fn(&Node<'_>)) -> Vec<String> {
        let flaws = Flaws::default();
        if let Some(node) = Node::read(text, &flaws) {
            look(&node);
        }
        flaws.into_vec().into_iter().map(|it| format!("{}: {}", it.pointer, it.detail)).collect()
    }

    #[test]
    fn what_nobody_reads_may_be_anything() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let odd = format!(
            r#"{{"note": "a\u0000b", "note": 1, "deep": {deep}, "lone": "\ud800", "id": 7}}"#
        );
        let looked = flaws(&odd, |node| {
            assert_eq!(node.member("id").and_then(|id| id.text()).as_deref(), Some("7"));
            assert!(node.member("missing").is_none());
        });
        assert_eq!(looked, [""; 0]);
    }

    #[test]
    fn what_is_read_and_makes_no_sense_is_noted_with_its_place() {
        let odd =
            r#"{"a": {"b": 1, "b": 2}, "c": [1, {"d": 1.5}], "e": {}, "f": "\ud800", "g": []}"#;
        let noted = flaws(odd, |node| {
            assert!(node.at(&["a", "b"]).is_none());
            assert_eq!(
                node.member("c").expect("c").entries()[1].member("d").expect("d").count(),
                None
            );
            assert_eq!(node.member("e").expect("e").text(), None);
            assert_eq!(node.member("f").expect("f").text(), None);
            assert!(node.member("e").expect("e").entries().is_empty());
        });
        assert_eq!(
            noted,
            [
                "/a/b: is there twice",
                "/c/1/d: has to be a whole number that is not negative",
                "/e: has to be text",
                "/f: has to be text",
                "/e: has to be a list",
            ]
        );
        for not_an_object in ["", "[]", "1", "nil", "{", "\"{\""] {
            assert_eq!(flaws(not_an_object, |_| ()), [": the body is not a JSON object"]);
        }
    }

    #[test]
    fn text_is_made_fit_to_be_kept_and_numbers_keep_their_digits() {
        let odd =
            "\u{feff}{\"a\": \" x\\u0000y\\r\\n\\tz \", \"b\": 1.50, \"c\": 2.0, \"d\": \"\"}";
        let noted = flaws(odd, |node| {
            let text = |name| node.member(name).and_then(|it| it.text());
            assert_eq!(text("a").as_deref(), Some("xy\nz"));
            assert_eq!(text("b").as_deref(), Some("1.50"));
            assert_eq!(text("d"), None);
            assert_eq!(node.member("c").and_then(|it| it.count()), Some(2));
        });
        assert_eq!(noted, [""; 0]);
    }
}
