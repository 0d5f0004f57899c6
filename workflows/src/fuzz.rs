//! What must hold of everything that this crate reads, whatever the bytes. For the fuzz targets.

use amends::StepError;
use amends::fuzz::Target;
use serde_json::Value;

use crate::order::{Order, OrderKey, parse_minor};
use crate::ports::http::verdict::{Exchange, judge};

/// Every target of this crate.
pub const TARGETS: &[Target] = &[("amount", amount), ("verdict", verdict)];

/// No message is longer: a path, a status and what is taken over of an answer.
const MESSAGE_CHARACTERS_MAX: usize = 250;

/// An amount is read exactly or not at all.
fn amount(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Some((currency, decimal)) = text.split_once(' ') else { return };
    let Ok(currency) = currency.parse() else { return };
    let Ok(minor) = parse_minor(decimal, currency) else { return };
    assert!(minor >= 0, "{text}");
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    let digits = format!("{whole}{}", fraction.trim_end_matches('0'));
    let read = minor.to_string();
    let (digits, read) = (digits.trim_start_matches('0'), read.trim_matches('0'));
    assert_eq!(digits.trim_end_matches('0'), read, "{text}");
}

/// Whatever a provider answers: only what it says with success is done, and what is told of it is
/// one line. The first two bytes are the status; the first line is a `Retry-After`. The media type
/// is that of the provider's own no, or with a status beyond all a gateway's.
fn verdict(bytes: &[u8]) {
    let [high, low, rest @ ..] = bytes else { return };
    let drawn = u16::from_be_bytes([*high, *low]);
    let (status, is_problem) = (drawn % 1000, drawn < 1000);
    let media_type = if is_problem { "application/problem+json" } else { "text/html" };
    let content_type = Some(media_type.to_owned());
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let retry_after = parts.next().and_then(|line| str::from_utf8(line).ok()).map(str::to_owned);
    let body = parts.next().map(<[u8]>::to_vec);
    let exchange = Exchange::Answered { status, content_type, retry_after, body: body.clone() };
    match judge::<Value>("/made", exchange, |_| "REFUSED") {
        Ok(value) => {
            assert!((200..300).contains(&status));
            let read = body.and_then(|body| serde_json::from_slice(&body).ok());
            assert_eq!(read, Some(value));
        }
        Err(error) => {
            let message = &error.failure().message;
            assert!(!message.contains(char::is_control), "{message:?}");
            assert!(message.chars().count() <= MESSAGE_CHARACTERS_MAX, "{message:?}");
            if let StepError::Retry { after: Some(after), .. } = &error {
                assert!(after.as_secs() <= 24 * 3600 && matches!(status, 429 | 503));
            }
            let is_unknown = matches!(error, StepError::Unknown(_));
            assert!(is_unknown || (is_problem && (400..504).contains(&status)), "{status}");
        }
    }
}

/// What is accepted as an order is one that can be carried out: its sums are right, it can be
/// stored, and it survives being stored.
pub fn sound(order: &Order) {
    if order.validate().is_err() {
        return;
    }
    let lines = order.lines.iter();
    let sum: i128 = lines.map(|it| i128::from(it.unit_price_minor) * i128::from(it.quantity)).sum();
    let extras: i128 = order.extras.iter().map(|extra| i128::from(extra.amount_minor)).sum();
    let charges = i128::from(order.shipping_minor) + i128::from(order.tax_minor) + extras;
    let total = sum + charges - i128::from(order.discount_minor);
    // What is closed is not carried out, and its parts may be gone.
    assert!(order.closed.is_some() || total == i128::from(order.total_minor));
    assert!(order.total_minor >= 0);
    let stored = serde_json::to_value(order).unwrap_or_default();
    assert!(!holds_nul(&stored), "{stored}");
    assert_eq!(serde_json::from_value::<Order>(stored).ok().as_ref(), Some(order));
    let key = order.business_key();
    assert_eq!(key.parse::<OrderKey>().map(|read| read.to_string()), Ok(key));
}

/// Whether a text or a name in it holds what Postgres has no place for.
pub fn holds_nul(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => {
            members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value))
        }
    }
}
