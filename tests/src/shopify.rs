//! What the Shopify shop sends.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// An order for 59.90 MYR as Shopify describes it.
#[must_use]
pub fn order(id: u64) -> Value {
    json!({
        "id": id, "name": "#1001", "email": "jane@example.com",
        "currency": "MYR", "total_tax": "0.00", "total_discounts": "0.00", "total_price": "59.90",
        "line_items": [{"sku": "TEE-M-BLK", "title": "Tee", "quantity": 2, "price": "29.95"}],
        "shipping_lines": [], "customer": {"first_name": "Jane", "last_name": "Tan"},
        "shipping_address": {"name": "Jane Tan", "address1": "1 Jalan Satu",
            "city": "Kuala Lumpur", "zip": "50000", "country_code": "MY"},
    })
}

/// The signature of a body with a shop's secret.
#[must_use]
pub fn signature(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
    mac.update(body.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}
