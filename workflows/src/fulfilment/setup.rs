//! How a server carries out orders.

use serde::{Deserialize, Serialize};

use super::Packing;

/// How a server carries out orders. What an order was begun with holds for it to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Who packs.
    pub packing: Packing,
    /// Who keeps the stock.
    pub stock: StockKeeping,
}

/// Who keeps the stock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum StockKeeping {
    /// A system that is asked over HTTP.
    #[default]
    Provider,
    /// The engine's own database.
    Database {
        /// For so long a reservation is certainly kept, in seconds.
        keep_for_seconds: u32,
    },
}
