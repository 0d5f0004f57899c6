//! For which shops a token speaks.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use amends_workflows::order::ShopName;

/// Stands for every shop.
const EVERY: &str = "*";
const SEPARATOR: char = '|';

/// The shops that the holder of a token may send orders and signals for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// All there are.
    Every,
    /// These.
    Only(BTreeSet<ShopName>),
}

/// The text names no shops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("shops are written as acme.myshopify.com|other.example, or * for every shop")]
pub struct InvalidBinding;

impl Binding {
    /// Whether this shop is one of them.
    #[must_use]
    pub fn allows(&self, shop: &ShopName) -> bool {
        match self {
            Self::Every => true,
            Self::Only(shops) => shops.contains(shop),
        }
    }

    /// The shops by name; none if they are not counted.
    pub(crate) fn names(&self) -> Vec<String> {
        match self {
            Self::Every => Vec::new(),
            Self::Only(shops) => shops.iter().map(ShopName::to_string).collect(),
        }
    }
}

impl FromStr for Binding {
    type Err = InvalidBinding;

    /// Reads `*`, or domains between `|`. A domain has a dot: the end of a token that holds a colon
    /// is not taken for a shop.
    fn from_str(text: &str) -> Result<Self, InvalidBinding> {
        if text.trim() == EVERY {
            return Ok(Self::Every);
        }
        let domain =
            |text: &str| text.parse().ok().filter(|it: &ShopName| it.as_str().contains('.'));
        let shops: Option<BTreeSet<_>> = text.split(SEPARATOR).map(domain).collect();
        shops.map(Self::Only).ok_or(InvalidBinding)
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => formatter.write_str("every shop"),
            Self::Only(_) => formatter.write_str(&self.names().join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop(text: &str) -> ShopName {
        text.parse().expect("a shop")
    }

    #[test]
    fn a_binding_allows_its_shops_however_they_are_spelt_and_no_others() {
        let binding: Binding = "Acme.example.| other.example".parse().expect("a binding");
        assert!(binding.allows(&shop("ACME.example")) && binding.allows(&shop("other.example.")));
        for other in ["acme.example.evil.example", "evilacme.example", "example", "acme"] {
            assert!(!binding.allows(&shop(other)), "{other}");
        }
        assert_eq!(binding.to_string(), "acme.example, other.example");
        assert!("*".parse::<Binding>().expect("a binding").allows(&shop("any.example")));
    }

    #[test]
    fn what_names_no_shops_binds_to_nothing() {
        for text in ["", "acme", "a.example|", "|", "*|a.example", "a b.example", "*.example/"] {
            assert_eq!(text.parse::<Binding>(), Err(InvalidBinding), "{text}");
        }
    }
}
