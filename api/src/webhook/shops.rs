//! The shops of one platform, and what they sign with.

use std::collections::BTreeMap;

use amends_workflows::order::ShopName;

use crate::secret::Secret;

/// Secrets by shop. A shop may have several: while it changes one, both are in use.
#[derive(Debug, Clone, Default)]
pub struct Shops(BTreeMap<ShopName, Vec<Secret>>);

impl Shops {
    /// Adds a shop, however it is spelt. What is not the name of a shop is left out: no webhook
    /// could be from it.
    pub fn insert(&mut self, shop: &str, secrets: Vec<Secret>) {
        if let Ok(shop) = shop.parse() {
            self.0.entry(shop).or_default().extend(secrets);
        }
    }

    /// Whether there is such a shop.
    #[must_use]
    pub fn contains(&self, shop: &str) -> bool {
        shop.parse().is_ok_and(|shop: ShopName| self.0.contains_key(&shop))
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
        let shop = shop.parse().ok();
        shop.and_then(|shop: ShopName| self.0.get(&shop)).map_or(&[], Vec::as_slice)
    }
}
