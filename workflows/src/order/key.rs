//! What names an order: its shop and the shop's own id of it.
//!
//! One order has one name, however its shop is spelt. Keys are built here and nowhere else.

use std::fmt;
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

const CHARACTERS_MAX: usize = 200;
const SEPARATOR: char = '/';

/// The one spelling of a shop's domain: lower case, without a final dot, other scripts in punycode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShopName(String);

/// The text is not the name of a shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a domain, such as acme.myshopify.com, of at most 200 characters, without spaces and '/'"
)]
pub struct InvalidShop;

/// The text is not a shop's id of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to 200 visible ASCII characters: no spaces, no '/', no invisible or \
     direction-changing characters"
)]
pub struct InvalidOrderId;

/// Why a text does not name an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// There is nothing that separates a shop from an order.
    #[error("must be shop/order_id")]
    NoShop,
    /// The part before the separator.
    #[error("the shop {0}")]
    Shop(#[from] InvalidShop),
    /// The part behind it.
    #[error("the order id {0}")]
    OrderId(#[from] InvalidOrderId),
}

impl ShopName {
    /// The name as it is stored and compared.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ShopName {
    type Err = InvalidShop;

    fn from_str(text: &str) -> Result<Self, InvalidShop> {
        let text = text.trim();
        let ascii = Uts46::new()
            .to_ascii(text.as_bytes(), AsciiDenyList::URL, Hyphens::Allow, DnsLength::Ignore)
            .map_err(|_| InvalidShop)?;
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        let is_domain = name.len() <= CHARACTERS_MAX && name.split('.').all(|it| !it.is_empty());
        if is_domain { Ok(Self(name.to_owned())) } else { Err(InvalidShop) }
    }
}

impl fmt::Display for ShopName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The business key of an order, in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderKey {
    shop: ShopName,
    order_id: String,
}

impl OrderKey {
    /// The key of a shop's order, however the shop is spelt.
    pub fn try_new(shop: &str, order_id: &str) -> Result<Self, InvalidKey> {
        check_order_id(order_id)?;
        Ok(Self { shop: shop.parse()?, order_id: order_id.to_owned() })
    }

    /// The shop.
    #[must_use]
    pub fn shop(&self) -> &ShopName {
        &self.shop
    }
}

impl FromStr for OrderKey {
    type Err = InvalidKey;

    /// Reads `shop/order_id`.
    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let (shop, order_id) = text.split_once(SEPARATOR).ok_or(InvalidKey::NoShop)?;
        Self::try_new(shop, order_id)
    }
}

impl fmt::Display for OrderKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&joined(&self.shop.0, &self.order_id))
    }
}

/// Ids are compared to the byte. Characters that look alike or cannot be seen would make two ids of
/// one, so only those are taken that have one form.
pub(super) fn check_order_id(text: &str) -> Result<(), InvalidOrderId> {
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_id = (1..=CHARACTERS_MAX).contains(&text.len()) && is_visible;
    if is_id && !text.contains(SEPARATOR) { Ok(()) } else { Err(InvalidOrderId) }
}

/// The key of an order whose parts are as they were recorded.
pub(super) fn joined(shop: &str, order_id: &str) -> String {
    format!("{shop}{SEPARATOR}{order_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_shop_is_one_name() {
        for text in [
            "acme.myshopify.com",
            "ACME.MyShopify.Com",
            "acme.myshopify.com.",
            " acme.myshopify.com\t",
            "acme\u{3002}myshopify.com",
            "ａｃｍｅ.myshopify.com",
            "ac\u{ad}me.myshopify.com",
            "acme\u{200b}.myshopify.com",
        ] {
            assert_eq!(text.parse(), Ok(ShopName("acme.myshopify.com".to_owned())), "{text:?}");
        }
        for text in ["bücher.example", "BÜCHER.example", "bu\u{308}cher.example"] {
            assert_eq!(text.parse(), Ok(ShopName("xn--bcher-kva.example".to_owned())), "{text:?}");
        }
        // Looks the same, and is another one.
        assert_eq!("\u{430}cme.example".parse(), Ok(ShopName("xn--cme-5cd.example".to_owned())));
    }

    #[test]
    fn what_is_no_domain_is_no_shop() {
        let long = format!("{}.example", "a".repeat(200));
        for text in [
            "",
            " ",
            ".",
            "acme..",
            "a..b",
            ".a",
            "a/b",
            "a b",
            "a\u{a0}b",
            "a\0b",
            "a\nb",
            "a:b",
            "a@b",
            "a%41",
            "xn--\u{e9}.example",
            "xn--a.example",
            "a\u{202e}b",
            "a\u{200e}b",
            &long,
        ] {
            assert_eq!(text.parse::<ShopName>(), Err(InvalidShop), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_its_own_spelling() {
        for text in ["acme", "a_b.example", "xn--bcher-kva.example", "127.0.0.1", &"a".repeat(200)]
        {
            assert_eq!(text.parse::<ShopName>().map(|name| name.0).as_deref(), Ok(text));
        }
    }

    #[test]
    fn an_order_id_has_one_form_only() {
        let key = |id: &str| OrderKey::try_new("ACME.example.", id).map(|key| key.to_string());
        for id in ["1001", "#1001", "aB-_.:~", &"1".repeat(200)] {
            assert_eq!(key(id), Ok(format!("acme.example/{id}")));
        }
        for id in [
            "",
            " 1",
            "1 ",
            "1 2",
            "1\t",
            "1\u{a0}",
            "1\u{200b}",
            "\u{feff}1",
            "1\u{202e}",
            "1\u{2066}",
            "1\u{200e}",
            "1\u{ad}",
            "1\u{fe0f}",
            "1\u{3164}",
            "1\u{2800}",
            "\u{ff11}",
            "é",
            "1\0",
            "1\u{7f}",
            "1\u{85}",
            "1/2",
            &"1".repeat(201),
        ] {
            assert_eq!(key(id), Err(InvalidKey::OrderId(InvalidOrderId)), "{id:?}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key: OrderKey = "Acme.example/A1".parse().unwrap();
        assert_eq!(key.to_string(), "acme.example/A1");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!("acme".parse::<OrderKey>(), Err(InvalidKey::NoShop));
        assert_eq!("/1".parse::<OrderKey>(), Err(InvalidKey::Shop(InvalidShop)));
        assert!("acme/1/2".parse::<OrderKey>().is_err());
    }
}
