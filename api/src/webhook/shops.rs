//! The shops of one platform, and what they sign with.

use std::collections::BTreeMap;

use crate::secret::Secret;

/// Secrets by shop. A shop may have several: while it changes one, both are in use.
#[derive(Debug, Clone, Default)]
pub struct Shops(BTreeMap<String, Vec<Secret>>);

impl Shops {
    /// Adds a shop; its name is a domain, so case does not matter.
    pub fn insert(&mut self, shop: &str, secrets: Vec<Secret>) {
        self.0.entry(shop.to_ascii_lowercase()).or_default().extend(secrets);
    }

    /// Whether there is such a shop.
    #[must_use]
    pub fn contains(&self, shop: &str) -> bool {
        self.0.contains_key(&shop.to_ascii_lowercase())
    }

    /// How many shops there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secrets of a shop; none if it is unknown.
    pub(crate) fn secrets(&self, shop: &str) -> &[Secret] {
        self.0.get(&shop.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }
}
