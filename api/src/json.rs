//! Reads JSON that strangers sent.
//!
//! What serde would accept but we cannot keep (NUL characters, which Postgres has no place for)
//! or do not trust (deep nesting, members named twice) is refused first. No message repeats
//! anything that was sent.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::problem::{Code, Invalid, Problem};

/// How deep arrays and objects may nest.
const NESTING_MAX: usize = 32;

/// Reads a value of `T`, or says in a problem why that is not possible: 400 for what is not
/// acceptable JSON, `unfit` (422) for JSON that is not a `T`.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], unfit: Code) -> Result<T, Problem> {
    check(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        let detail = format!("the JSON does not have the form that is expected: {place}");
        let unfit_at = Invalid {
            pointer: String::new(),
            detail: format!("{place}: {}", expectation(&error.to_string())),
        };
        Problem::new(unfit, detail).with_errors(vec![unfit_at])
    })
}

/// The part of a message of serde that comes from our types, without the part that was sent.
fn expectation(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("missing field `")
        && let Some((field, _)) = rest.split_once('`')
    {
        return format!("the member {field} is missing");
    }
    // What was sent may hold these words too, so the last occurrence is the one of serde.
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => {
            let expected = expected.split(" at line ").next().unwrap_or(expected);
            format!("expected {expected}")
        }
        None => "a member is unknown, missing, or not of the right form".to_owned(),
    }
}

/// Refuses what is not JSON, nests too deeply, holds NUL, or names a member twice.
fn check(bytes: &[u8]) -> Result<(), Problem> {
    let refused = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let result = Shape { depth: 0, refused: &refused }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    result.map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        match refused.get() {
            Some(Refused::Depth) => Problem::new(
                Code::UnacceptableJson,
                format!("the JSON nests deeper than {NESTING_MAX} levels: {place}"),
            ),
            Some(Refused::Nul) => Problem::new(
                Code::UnacceptableJson,
                format!("the JSON holds a NUL character (\\u0000): {place}"),
            ),
            Some(Refused::Twice) => Problem::new(
                Code::UnacceptableJson,
                format!("the JSON names a member of an object twice: {place}"),
            ),
            None => Problem::new(Code::MalformedJson, format!("the body is not JSON: {place}")),
        }
    })
}

#[derive(Debug, Clone, Copy)]
enum Refused {
    Depth,
    Nul,
    Twice,
}

/// Walks a value without keeping it.
#[derive(Clone, Copy)]
struct Shape<'a> {
    depth: usize,
    refused: &'a Cell<Option<Refused>>,
}

impl Shape<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == NESTING_MAX {
            return Err(self.refuse(Refused::Depth));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn refuse<E: serde::de::Error>(self, why: Refused) -> E {
        self.refused.set(Some(why));
        E::custom("refused")
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') { Err(self.refuse(Refused::Nul)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper::<A::Error>()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inner = self.deeper::<A::Error>()?;
        let mut names = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            self.visit_str::<A::Error>(&name)?;
            if !names.insert(name) {
                return Err(self.refuse(Refused::Twice));
            }
            members.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Line {
        #[expect(dead_code, reason = "only whether it can be read is of interest")]
        quantity: u32,
    }

    fn refusal(text: &str) -> (Code, String) {
        let problem = parse::<Line>(text.as_bytes(), Code::InvalidOrder).expect_err("refused");
        let detail = problem.errors().first().map(|error| error.detail.clone());
        (problem.code(), detail.unwrap_or_default())
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        let problem = check(b"{\"a\":\n  tru}").expect_err("refused");
        assert_eq!(
            problem,
            Problem::new(Code::MalformedJson, "the body is not JSON: line 2, column 6")
        );
        for text in ["", "{", "{}x", "[1,]", "\"\u{1}\"", "{\"a\":1e999}", "\u{feff}{}"] {
            assert_eq!(
                check(text.as_bytes()).expect_err(text).code(),
                Code::MalformedJson,
                "{text}"
            );
        }
        assert_eq!(check(b"\"\xff\"").expect_err("not UTF-8").code(), Code::MalformedJson);
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(check(nested(NESTING_MAX).as_bytes()), Ok(()));
        for levels in [NESTING_MAX + 1, 100_000] {
            let problem = check(nested(levels).as_bytes()).expect_err("too deep");
            assert_eq!(problem.code(), Code::UnacceptableJson);
        }
    }

    #[test]
    fn nul_is_refused_in_values_and_names_and_an_escaped_backslash_is_not_nul() {
        for text in [r#""\u0000""#, r#"{"a\u0000":1}"#, r#"[{"a":["x\u0000y"]}]"#] {
            assert_eq!(check(text.as_bytes()).expect_err(text).code(), Code::UnacceptableJson);
        }
        assert_eq!(check(br#""\\u0000""#), Ok(()));
    }

    #[test]
    fn a_member_named_twice_is_refused() {
        assert_eq!(
            check(br#"{"a":1,"\u0061":2}"#).expect_err("twice").code(),
            Code::UnacceptableJson
        );
        assert_eq!(check(br#"[{"a":1},{"a":2}]"#), Ok(()));
    }

    #[test]
    fn what_was_sent_is_not_repeated() {
        assert_eq!(
            refusal(r#"{"quantity":"jane, expected at line 7"}"#),
            (Code::InvalidOrder, "line 1, column 38: expected u32".to_owned())
        );
        assert_eq!(
            refusal("{}"),
            (Code::InvalidOrder, "line 1, column 2: the member quantity is missing".to_owned())
        );
        assert_eq!(refusal("{\"quantity\":-1}").1, "line 1, column 14: expected u32");
    }
}
