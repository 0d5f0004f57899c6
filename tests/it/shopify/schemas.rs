//! Everything that the schemas of Shopify's webhooks allow is translated, or said why not.

use std::collections::BTreeMap;

use amends_api::fuzz::translate;
use amends_tests::chance::Chance;
use serde_json::{Map, Value, json};

use super::{no_test, samples, versions};

const SEED: u64 = 20_261_130;
/// Bodies per schema, half of them near its sample.
const BODIES: u64 = 10;
/// Of the parts of a sample, so many in a hundred are replaced.
const REPLACED: u64 = 3;
/// Below this, nothing more is made up.
const DEPTH_MAX: u32 = 12;

const TEXTS: [&str; 14] = [
    "",
    "0",
    "0.00",
    "10.00",
    "-1.00",
    "74.90",
    "0.001",
    "1e3",
    "MYR",
    "XXX",
    "MY",
    "paid",
    "Müller ☃",
    "\u{0}",
];
const INTEGERS: [i64; 7] = [0, 1, 2, 3, -1, 5_940_139_491_234, i64::MAX];
const NUMBERS: [f64; 4] = [0.0, 3.139, -101.68, 1e300];

/// What stands for the format of a text, if it has one.
fn formatted(format: &str) -> Option<&'static str> {
    Some(match format {
        "date-time" => "2026-11-30T10:00:00+08:00",
        "email" => "anna@example.com",
        "ipv4" => "203.0.113.7",
        "uri" => "https://acme.myshopify.com/orders/1",
        _ => return None,
    })
}

/// Any value that a schema allows.
fn any(schema: &Value, chance: &Chance, depth: u32) -> Value {
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => vec!["null", "string", "object"],
    };
    match kinds[chance.below(kinds.len() as u64) as usize] {
        "null" => Value::Null,
        "boolean" => json!(chance.percent(50)),
        "integer" => json!(INTEGERS[chance.below(INTEGERS.len() as u64) as usize]),
        "number" => json!(NUMBERS[chance.below(NUMBERS.len() as u64) as usize]),
        "array" => {
            let length = if depth < DEPTH_MAX { chance.below(4) } else { 0 };
            (0..length).map(|_| any(&schema["items"], chance, depth + 1)).collect()
        }
        "object" => {
            let required = |name: &str| {
                schema["required"].as_array().is_some_and(|all| all.iter().any(|it| it == name))
            };
            let properties = schema["properties"].as_object().into_iter().flatten();
            let there = properties.filter(|(name, _)| required(name) || chance.percent(75));
            there.map(|(name, of)| (name.clone(), any(of, chance, depth + 1))).collect()
        }
        _ => match schema["format"].as_str().and_then(formatted) {
            Some(text) => json!(text),
            None => json!(TEXTS[chance.below(TEXTS.len() as u64) as usize]),
        },
    }
}

/// A sample of which some parts are others that its schema allows.
fn near(sample: &Value, schema: &Value, chance: &Chance, depth: u32) -> Value {
    if depth > 0 && chance.percent(REPLACED) {
        return any(schema, chance, depth);
    }
    match sample {
        Value::Object(members) => {
            let near = |(name, value): (&String, &Value)| {
                (name.clone(), near(value, &schema["properties"][name], chance, depth + 1))
            };
            Value::Object(members.iter().map(near).collect::<Map<_, _>>())
        }
        Value::Array(items) => {
            items.iter().map(|item| near(item, &schema["items"], chance, depth + 1)).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn whatever_the_schemas_allow_is_translated_or_said_why_not() {
    let mut came_to: BTreeMap<String, u64> = BTreeMap::new();
    for version in versions() {
        let schemas = version.parent().unwrap().with_file_name("schemas");
        for (topic, sample) in samples(&version) {
            let name = format!("{topic}.json");
            let schema = schemas.join(version.file_name().unwrap()).join(name);
            let schema: Value =
                serde_json::from_str(&std::fs::read_to_string(&schema).unwrap()).unwrap();
            let chance = Chance::of(SEED, &schema.to_string(), 0);
            let real = no_test(&sample);
            for number in 0..BODIES {
                let body = if number % 2 == 0 {
                    near(&real, &schema, &chance, 0)
                } else {
                    no_test(&any(&schema, &chance, 0))
                };
                let delivery = format!("x-shopify-topic: {topic}\nx-shopify-event-id: e\n\n{body}");
                let outcome = translate(delivery.as_bytes());
                *came_to.entry(outcome).or_default() += 1;
            }
        }
    }
    let bodies: u64 = came_to.values().sum();
    assert!(bodies > 1_000, "only {bodies} bodies");
    assert!(came_to["order"] > 100 && came_to["refunded"] > 25, "{came_to:#?}");
}
