//! The stock system: reserves articles for an order, and lets them go.

use amends::Undone;

use super::Answer;
use crate::order::Item;

/// A system that knows what is in stock.
pub trait Stock: Send + Sync {
    /// Reserves all `items` or none. Fails with `OUT_OF_STOCK` if one of them is missing.
    fn reserve<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        items: &'a [Item],
    ) -> Answer<'a, Reservation>;

    /// Makes sure that nothing is reserved under `reservation_key`.
    fn release<'a>(&'a self, key: &'a str, reservation_key: &'a str) -> Answer<'a, Undone>;
}

/// Articles that are kept for an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The stock system's reference.
    pub reservation_id: String,
}
