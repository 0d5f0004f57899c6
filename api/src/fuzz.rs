//! What must hold of everything that strangers send, whatever the bytes. For the fuzz targets.

use std::path::PathBuf;

use amends::fuzz::Target;
use amends_workflows::fuzz::{holds_nul, sound};
use amends_workflows::order::Order;
use axum::body::Bytes;
use axum::extract::Query;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use hmac::{Hmac, KeyInit, Mac};
use serde::de::IgnoredAny;
use sha2::Sha256;
use uuid::Uuid;

use crate::auth::{Permission, Role, Token, authorise};
use crate::config::{Arguments, Config, DATA_DIR_DEFAULT, DatabaseArguments};
use crate::events;
use crate::idempotency_key;
use crate::instances::{self, cursor};
use crate::json;
use crate::problem::{Code, Problem};
use crate::schedules;
use crate::secret::Secret;
use crate::signals::send::SignalRequest;
use crate::webhook::shopify::Shopify;
use crate::webhook::{self, Received, Source, Translated};

/// Every target of this crate.
pub const TARGETS: &[Target] = &[
    ("command", command),
    ("configuration", configuration),
    ("json", any_json),
    ("order", order),
    ("query", query),
    ("signal", signal),
    ("signature", signature),
    ("token", token),
    ("webhook", webhook),
];

const SHOP: &str = "acme.myshopify.com";
const SECRET: &str = "shpss_1";

/// A refusal has one of these codes.
fn told(problem: &Problem, codes: &[Code]) {
    assert!(codes.contains(&problem.code()), "{problem:?}");
}

/// JSON that is let through is JSON to others too, without NUL.
fn any_json(bytes: &[u8]) {
    match json::parse::<serde_json::Value>(bytes, Code::InvalidOrder) {
        Ok(value) => assert!(!holds_nul(&value), "{value}"),
        Err(problem) => {
            told(&problem, &[Code::MalformedJson, Code::UnacceptableJson]);
            let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
            assert!(!is_json || problem.code() == Code::UnacceptableJson || exceeds(bytes));
        }
    }
}

/// Numbers that no `f64` can hold are refused; who ignores them does not notice.
fn exceeds(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(bytes).is_err()
}

fn order(bytes: &[u8]) {
    match json::parse::<Order>(bytes, Code::InvalidOrder) {
        Ok(order) => sound(&order),
        Err(problem) => {
            told(&problem, &[Code::MalformedJson, Code::UnacceptableJson, Code::InvalidOrder]);
        }
    }
}

fn signal(bytes: &[u8]) {
    if let Ok(signal) = json::parse::<SignalRequest>(bytes, Code::InvalidSignal) {
        let body = signal.body.as_deref().map_or("null", serde_json::value::RawValue::get);
        assert!(serde_json::from_str::<IgnoredAny>(body).is_ok(), "{body}");
        assert!(!signal.business_key.contains('\0') && !signal.signal.contains('\0'));
    }
}

/// Commands to instances, with and without a finding, to schedules, and about events.
fn command(bytes: &[u8]) {
    let to_instance = json::parse(bytes, Code::InvalidCommand).and_then(instances::command::read);
    let to_schedule = json::parse(bytes, Code::InvalidCommand).and_then(schedules::command::read);
    let about_event = json::parse(bytes, Code::InvalidCommand)
        .and_then(|request| events::command::read(&request));
    let reasons = [
        to_instance.map(|(_, reason)| reason),
        to_schedule.map(|(_, reason)| reason),
        about_event.map(|(_, reason)| reason),
    ];
    for reason in reasons.into_iter().flatten() {
        assert!(!reason.is_empty() && !reason.contains(char::is_control), "{reason:?}");
    }
}

/// What stands in a URL or names a request.
fn query(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(key) = idempotency_key::parse(text) {
        assert!((1..=255).contains(&key.0.len()));
        assert!(key.0.bytes().all(|byte| byte.is_ascii_graphic()), "{key:?}");
    }
    if let Some(id) = cursor::read(text) {
        assert_eq!(cursor::read(&cursor::after(id)), Some(id));
    }
    if let Ok(id) = text.parse::<Uuid>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let Ok(uri) = format!("/instances?{text}").parse::<Uri>() else { return };
    let Ok(Query(search)) = Query::try_from_uri(&uri) else { return };
    if let Ok(filter) = instances::list::filter(search) {
        assert!((1..=200).contains(&filter.limit));
        let texts = [&filter.workflow, &filter.business_key];
        assert!(texts.into_iter().flatten().all(|text| !text.contains('\0')), "{text}");
        assert!(filter.attribute.is_none_or(|(name, value)| {
            !name.is_empty() && !name.contains('\0') && !value.contains('\0')
        }));
    }
}

/// A delivery: headers, one per line, an empty line, the body. It is let through if and only if it
/// is signed.
fn signature(bytes: &[u8]) {
    let (headers, body) = head_and_body(bytes);
    let claimed = ["shopify-hmac-sha256", "x-shopify-hmac-sha256"]
        .into_iter()
        .find_map(|name| headers.get(name))
        .and_then(|value| value.to_str().ok())
        .and_then(|value| STANDARD.decode(value.trim()).ok());
    let is_signed = claimed.is_some_and(|claimed| claimed == sign(&body));
    let received = Received { shop: SHOP.to_owned(), headers, body };
    let verified = Shopify::verify(received.clone(), &[Secret::new("old"), Secret::new(SECRET)]);
    assert_eq!(verified.is_some(), is_signed);
    assert!(Shopify::verify(received, &[]).is_none());
}

fn webhook(bytes: &[u8]) {
    translate(bytes);
}

/// The same, signed as it should be: what names it, and what it becomes.
///
/// # Panics
///
/// If that is not sound.
pub fn translate(bytes: &[u8]) -> String {
    let (mut headers, body) = head_and_body(bytes);
    let signed = HeaderValue::from_str(&STANDARD.encode(sign(&body)));
    let Ok(signed) = signed else { return "unsigned".to_owned() };
    headers.insert("shopify-hmac-sha256", signed);
    let received = Received { shop: SHOP.to_owned(), headers, body };
    let Some(verified) = Shopify::verify(received, &[Secret::new(SECRET)]) else {
        panic!("a signed delivery is let through");
    };
    let (delivery, translated) = webhook::read::<Shopify>(&verified, DateTime::UNIX_EPOCH);
    assert!(delivery.external_id.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!((1..=255).contains(&delivery.external_id.len()));
    assert_eq!(&delivery.body[..], &verified.body()[..]);
    match translated {
        Translated::Order(news) => {
            assert_eq!(news.order.shop, SHOP);
            sound(&news.order);
            "order".to_owned()
        }
        Translated::Refunded(refunded) => {
            assert!(refunded.business_key.starts_with(SHOP));
            "refunded".to_owned()
        }
        Translated::Failed(failed) | Translated::FailedNews(failed) => {
            assert!(!failed.problems.is_empty() && failed.message().len() <= 4000);
            failed.code.to_owned()
        }
        Translated::Ignored { reason, .. } => reason.to_owned(),
    }
}

fn head_and_body(bytes: &[u8]) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        if line.is_empty() {
            break;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name).ok());
        let value = parts.next().and_then(|value| HeaderValue::from_bytes(value).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (headers, Bytes::copy_from_slice(rest))
}

fn sign(body: &[u8]) -> Vec<u8> {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()) else { return Vec::new() };
    mac.chain_update(body).finalize().into_bytes().to_vec()
}

/// A header that lets somebody in holds his token.
fn token(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let tokens = [Token::new("anna", Role::Admin, "s3cret")];
    if authorise(&tokens, &headers, Permission::Command, DateTime::UNIX_EPOCH).is_ok() {
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        assert!(text.starts_with("bearer ") && text.ends_with("s3cret"), "{text}");
    }
}

/// Settings are used or refused as a whole, and a refusal says which of them. Tokens stand on the
/// first line, secrets of shops on the second, a database on the third, numbers below.
fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n').map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    let (tokens, shopify_secrets, database_url) = (line(), line(), line());
    let arguments = Arguments {
        listen: "127.0.0.1:0".to_owned(),
        database: DatabaseArguments {
            database_url: Some(database_url),
            database_url_file: None,
            data_dir: PathBuf::from(DATA_DIR_DEFAULT),
            pg_bin: None,
        },
        metrics_listen: None,
        providers_url: None,
        providers_url_file: None,
        tokens: Some(tokens),
        tokens_file: None,
        shopify_secrets: Some(shopify_secrets),
        shopify_secrets_file: None,
        events_url: None,
        events_url_file: None,
        instances_max: Some(line()),
        lease_seconds: Some(line()),
        connections_max: Some(line()),
        connections_per_address_max: Some(line()),
        wait_database: Some(line()),
        on_lost_commits: Some(line()),
        durability: Some(line()),
        packing: Some(line()),
        packing_late_seconds: Some(line()),
        stock: Some(line()),
        stock_kept_seconds: Some(line()),
    };
    match Config::try_from(arguments) {
        Ok(config) => {
            let names: Vec<_> = config.http.tokens.iter().map(Token::name).collect();
            assert!(names.iter().all(|name| !name.is_empty()), "{names:?}");
            assert!((3..=3600).contains(&config.lease.as_secs()) && config.instances_max > 0);
            assert!(config.http.connections.all > 0);
        }
        Err(problems) => assert!(
            problems.to_string().contains("AMENDS_") || {
                problems.to_string().contains("DATABASE_URL")
            }
        ),
    }
}
