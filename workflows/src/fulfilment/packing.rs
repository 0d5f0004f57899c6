//! Packing by a person: what is to be packed, what was packed, and what is said while nobody packs.

use std::collections::BTreeMap;
use std::time::Duration;

use amends::{Event, Halt, Saga, Signal};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::story::about;
use crate::order::{Item, Order};

/// So many parcels at most, which is more than anybody sends of one order.
const PARCELS_MAX: usize = 50;
/// The pause between two reminders doubles up to this.
const REMINDER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Who packs the orders of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Packing {
    /// Nobody says so: whatever is to be handed over is handed over at once, in one parcel, and
    /// nobody is waited for who picks it up.
    #[default]
    Unattended,
    /// A person, who says what is packed. The same person says when it was picked up.
    Person {
        /// So long after it could be packed, in seconds, it is late.
        late_after_seconds: u32,
    },
}

/// A person has packed an order, or as much of it as there was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packed {
    /// What is in each parcel.
    pub parcels: Vec<PackedParcel>,
    /// What was not to be found. The customer does not pay for it.
    #[serde(default)]
    pub missing: Vec<Item>,
}

/// One packed parcel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedParcel {
    /// What is in it.
    pub items: Vec<Item>,
}

impl Signal for Packed {
    const NAME: &'static str = "packed";
}

/// A customer has picked up an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PickedUp {}

impl Signal for PickedUp {
    const NAME: &'static str = "picked_up";
}

impl Packed {
    /// All of it in one parcel.
    fn whole(items: Vec<Item>) -> Self {
        Self { parcels: vec![PackedParcel { items }], missing: Vec::new() }
    }

    /// What is in all parcels.
    pub(super) fn items(&self) -> Vec<Item> {
        self.parcels.iter().flat_map(|parcel| parcel.items.clone()).collect()
    }

    /// Why this cannot be what was packed of `ordered`, if it cannot.
    fn refusal(&self, ordered: &[Item]) -> Option<String> {
        let packed = self.parcels.iter().flat_map(|parcel| &parcel.items);
        if self.parcels.is_empty() || self.parcels.iter().any(|parcel| parcel.items.is_empty()) {
            return Some("a parcel has something in it, and there is one at least".to_owned());
        }
        if self.parcels.len() > PARCELS_MAX {
            return Some(format!("there are more than {PARCELS_MAX} parcels"));
        }
        let mut said = packed.clone().chain(&self.missing);
        if let Some(item) = said.find(|item| item.quantity == 0) {
            return Some(format!("of {}, no piece is said to be packed or missing", item.sku));
        }
        let (ordered, said) = (sums(ordered), sums(packed.chain(&self.missing)));
        let skus = ordered.keys().chain(said.keys());
        let count = |of: &BTreeMap<&str, u64>, sku| of.get(sku).copied().unwrap_or_default();
        let mut skus = skus.filter(|sku| count(&ordered, **sku) != count(&said, **sku));
        skus.next().map(|sku| {
            let (ordered, said) = (count(&ordered, *sku), count(&said, *sku));
            format!("of {sku}, {ordered} are ordered, and {said} are packed or missing")
        })
    }
}

fn sums<'a>(items: impl IntoIterator<Item = &'a Item>) -> BTreeMap<&'a str, u64> {
    let mut sums = BTreeMap::new();
    for item in items {
        *sums.entry(&*item.sku).or_default() += u64::from(item.quantity);
    }
    sums
}

/// What is in the parcels, once it is packed.
pub(super) async fn packed(saga: &Saga, order: &Order, packing: Packing) -> Result<Packed, Halt> {
    let items = order.items();
    let by_person = matches!(packing, Packing::Person { .. });
    let prepared = json!({ "items": items, "packed_by_person": by_person });
    saga.publish(about("SHIPMENT_PREPARED", order, prepared)).await?;
    let packed = loop {
        let Packing::Person { late_after_seconds } = packing else {
            break Packed::whole(items);
        };
        let packed: Packed = patiently(saga, late_after_seconds, |seconds| {
            about("PACKING_LATE", order, json!({ "waited_seconds": seconds }))
        })
        .await?;
        let Some(reason) = packed.refusal(&items) else { break packed };
        saga.publish(about("PACKING_REFUSED", order, json!({ "reason": reason }))).await?;
    };
    saga.publish(about("SHIPMENT_PROCESSED", order, json!(packed))).await?;
    Ok(packed)
}

/// Waits for the customer to pick it up.
pub(super) async fn picked_up(saga: &Saga, order: &Order, packing: Packing) -> Result<(), Halt> {
    let Packing::Person { late_after_seconds } = packing else { return Ok(()) };
    saga.publish(about("READY_FOR_PICKUP", order, json!({}))).await?;
    let PickedUp {} = patiently(saga, late_after_seconds, |seconds| {
        about("PICKUP_LATE", order, json!({ "waited_seconds": seconds }))
    })
    .await?;
    saga.publish(about("PICKED_UP", order, json!({}))).await
}

/// Waits for a signal for as long as it takes, and says when it is late, less and less often.
async fn patiently<S: Signal>(
    saga: &Saga,
    late_after_seconds: u32,
    late: impl Fn(u64) -> Event,
) -> Result<S, Halt> {
    let mut pause = Duration::from_secs(u64::from(late_after_seconds.max(1)));
    let mut waited = Duration::ZERO;
    loop {
        if let Some(signal) = saga.wait::<S>(pause).await? {
            return Ok(signal);
        }
        waited += pause;
        saga.publish(late(waited.as_secs())).await?;
        pause = (pause * 2).min(REMINDER_MAX.max(pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(items: &[(&str, u32)]) -> Vec<Item> {
        items.iter().map(|&(sku, quantity)| Item { sku: sku.into(), quantity }).collect()
    }

    fn packed(parcels: &[&[(&str, u32)]], missing: &[(&str, u32)]) -> Packed {
        let parcels = parcels.iter().map(|it| PackedParcel { items: items(it) }).collect();
        Packed { parcels, missing: items(missing) }
    }

    #[test]
    fn what_is_packed_or_missing_is_what_was_ordered() {
        let ordered = items(&[("TEE", 2), ("CAP", 1), ("TEE", 1)]);
        let fits = [
            Packed::whole(ordered.clone()),
            packed(&[&[("TEE", 3), ("CAP", 1)]], &[]),
            packed(&[&[("TEE", 1)], &[("TEE", 2), ("CAP", 1)]], &[]),
            packed(&[&[("TEE", 2)]], &[("CAP", 1), ("TEE", 1)]),
        ];
        for packed in fits {
            assert_eq!(packed.refusal(&ordered), None);
        }
        let refused = [
            packed(&[], &[("TEE", 3), ("CAP", 1)]),
            packed(&[&[]], &[("TEE", 3), ("CAP", 1)]),
            packed(&[&[("TEE", 3)]], &[]),
            packed(&[&[("TEE", 3), ("CAP", 1), ("MUG", 0)]], &[]),
            packed(&[&[("TEE", 3), ("CAP", 1)], &[("TEE", 0)]], &[]),
            packed(&[&[("TEE", 4), ("CAP", 1)]], &[]),
            packed(&[&[("TEE", 3), ("CAP", 1), ("MUG", 1)]], &[]),
            packed(&[&[("TEE", u32::MAX), ("TEE", u32::MAX), ("CAP", 1)]], &[]),
            packed(&[&[("TEE", 1)][..]; PARCELS_MAX + 1], &[]),
        ];
        for packed in refused {
            assert!(packed.refusal(&ordered).is_some(), "{packed:?}");
        }
        let short = packed(&[&[("TEE", 3)]], &[]).refusal(&ordered).unwrap();
        assert_eq!(short, "of CAP, 1 are ordered, and 0 are packed or missing");
    }
}
