//! The carrier: takes a parcel. What it has taken cannot be called back.

use super::Answer;
use crate::order::{Item, Recipient};

/// A company that delivers parcels.
pub trait Carrier: Send + Sync {
    /// Ships `items` to `recipient`. Fails with `SHIPMENT_ERROR` if the carrier refuses the parcel.
    fn ship<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        items: &'a [Item],
        recipient: &'a Recipient,
    ) -> Answer<'a, Shipment>;
}

/// A parcel on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shipment {
    /// The carrier's reference.
    pub shipment_id: String,
    /// What the customer follows the parcel with.
    pub tracking_number: String,
}
