//! Fulfils an order: reserve, invoice, charge, pack, ship, notify, as far as the order needs it.
//!
//! What was paid at the shop is not charged again, what needs no parcel is not shipped, and an order
//! that is closed when it comes is kept and left alone.
//!
//! Until a parcel is with the carrier, whatever was done is undone when a step fails for good or
//! somebody cancels. From then on there is no way back: the customer is notified, sooner or later.
//! What cannot be handed over of an order that is on its way is not paid for.

pub mod charge;
pub mod collect;
pub mod give_back;
pub mod issue_invoice;
pub mod notify;
pub mod packing;
pub mod parcel;
pub mod reserve_stock;
pub mod ship;

mod money;
mod performers;
mod setup;
mod story;
mod version_1;
mod version_2;

use std::time::Duration;

use amends::{Dependency, EngineBuilder, RetryPolicy};
use serde::{Deserialize, Serialize};

use crate::order::Item;
use crate::ports::{CALL_TIMEOUT, Ports};
use parcel::Parcel;
use story::failed;

pub use packing::Packing;
pub use setup::{Setup, StockKeeping};
pub use version_1::FulfilmentV1;
pub use version_2::Fulfilment;

/// How long an attempt of any step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
// The client must give up before the step does, since only the client knows whether a request left.
const _: () = assert!(CALL_TIMEOUT.as_millis() < STEP_TIMEOUT.as_millis());
/// How a step before the pivot meets trouble that may pass: 20 attempts over about an hour. A
/// provider that is down for minutes must not cost the shop its orders; support can cancel earlier.
fn patience() -> RetryPolicy {
    RetryPolicy { delay_max: Duration::from_secs(300), attempts_max: 20, ..RetryPolicy::default() }
}

/// How long payment provider, carrier and mail provider remember a key. The shop's own systems,
/// stock and invoices, remember it for ever.
const KEY_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// How long the payment provider may still take money for a charge whose answer we have given up.
/// It waits for the bank of the card, and cuts that short after a minute at the latest. Sooner than
/// this, "there is no such charge" proves nothing.
const PAYMENT_SETTLES: Duration = Duration::from_secs(60);

/// The same of stock and invoices, which are the shop's own and ask nobody else. Half a minute is
/// what common servers and proxies allow a request in all.
const OWN_SYSTEMS_SETTLE: Duration = Duration::from_secs(30);

// What the steps call.
const STOCK: &str = "stock";
const INVOICES: &str = "invoices";
const PAYMENT: &str = "payment";
const CARRIER: &str = "carrier";
const MAIL: &str = "mail";
const SHOP: &str = "shop";

/// So many calls in a row without an answer are an outage: what needs that provider waits without
/// spending attempts until it is back. A single order that only it refuses to answer spends its own
/// attempts first.
const OUTAGE: u32 = 20;

/// What both versions are called.
const NAME: &str = "fulfilment";

/// Adds the workflow to an engine, in every version that has ever been started, with the providers
/// that its steps talk to.
#[must_use]
pub fn register(engine: EngineBuilder, ports: Ports, setup: Setup) -> EngineBuilder {
    let engine = engine
        .workflow(FulfilmentV1::new(ports.clone()))
        .workflow(Fulfilment::new(ports.clone(), setup))
        .workflow(Parcel::new(ports));
    with_dependencies(engine)
}

/// Adds the first version alone.
#[must_use]
pub fn register_first(engine: EngineBuilder, ports: Ports) -> EngineBuilder {
    with_dependencies(engine.workflow(FulfilmentV1::new(ports)))
}

fn with_dependencies(engine: EngineBuilder) -> EngineBuilder {
    [STOCK, INVOICES, PAYMENT, CARRIER, MAIL, SHOP]
        .into_iter()
        .map(|name| Dependency::new(name).down_after(OUTAGE))
        .fold(engine, EngineBuilder::dependency)
}

/// What came of an order that was fulfilled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fulfilled {
    /// The number printed on the invoice, unless there was nothing to be done.
    #[serde(default)]
    pub invoice_number: Option<String>,
    /// The reference of the payment, if there was one.
    #[serde(default)]
    pub charge_id: Option<String>,
    /// What the customer follows the parcel with, if there is one.
    #[serde(default)]
    pub tracking_number: Option<String>,
    /// The same of the other parcels, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_tracking_numbers: Vec<String>,
    /// What the customer does not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Item>,
    /// How much less the customer pays for that, of the money that goes through us; in the currency
    /// that was agreed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reduced_by_minor: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(amount_minor: &i64) -> bool {
    *amount_minor == 0
}

/// What the tests of the steps share.
#[cfg(test)]
mod testing {
    use amends::{Event, Moment, Step};
    use serde_json::Value;

    /// Kind and data of events, comparable.
    pub(super) fn read(events: &[Event]) -> Vec<(&'static str, Value)> {
        let data = |event: &Event| serde_json::from_str(event.data.get()).unwrap();
        events.iter().map(|event| (event.kind, data(event))).collect()
    }

    /// What a step publishes at a moment.
    pub(super) fn told<S: Step>(step: &S, moment: Moment<'_, S>) -> Vec<(&'static str, Value)> {
        read(&step.events(moment))
    }
}

#[cfg(test)]
mod tests;
