//! Hands the parcel to the carrier. This is the pivot: what is on the road cannot be called back.

use std::sync::Arc;

use amends::{Call, Declaration, Event, Moment, Step, StepError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{CARRIER, KEY_WINDOW, STEP_TIMEOUT, failed, patience};
use crate::order::{Item, Order, Recipient};
use crate::ports::Carrier;

/// The step that ships the parcel.
#[derive(Clone)]
pub struct Ship {
    carrier: Arc<dyn Carrier>,
}

/// What is to be shipped, and where to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShipRequest {
    /// The order's business key.
    pub business_key: String,
    /// Articles and quantities.
    pub items: Vec<Item>,
    /// Where the parcel goes.
    pub recipient: Recipient,
}

/// What was shipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    /// The carrier's reference.
    pub shipment_id: String,
    /// What the customer follows the parcel with.
    pub tracking_number: String,
}

impl Ship {
    /// The step, with the carrier it asks.
    #[must_use]
    pub fn new(carrier: Arc<dyn Carrier>) -> Self {
        Self { carrier }
    }
}

impl ShipRequest {
    /// All that is to be handed over in one parcel. None: there is nothing, or it is picked up.
    #[must_use]
    pub fn of(order: &Order) -> Option<Self> {
        let items = order.items();
        let recipient = order.recipient.clone().filter(|_| !items.is_empty())?;
        Some(Self { business_key: order.business_key(), items, recipient })
    }
}

impl Step for Ship {
    const NAME: &'static str = "ship";
    type Input = ShipRequest;
    type Output = Shipped;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent_within(KEY_WINDOW)
            .pivot()
            .retry(patience())
            .timeout(STEP_TIMEOUT)
            .through(CARRIER)
    }

    async fn run(&self, call: &Call, input: &ShipRequest) -> Result<Shipped, StepError> {
        let shipment = self
            .carrier
            .ship(call.key(), &input.business_key, &input.items, &input.recipient)
            .await?;
        Ok(Shipped { shipment_id: shipment.shipment_id, tracking_number: shipment.tracking_number })
    }

    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        match moment {
            Moment::Done { input, output } => {
                let shipped = json!({
                    "business_key": input.business_key,
                    "shipment_id": output.shipment_id,
                    "tracking_number": output.tracking_number,
                });
                vec![Event::new("SHIPPED", &shipped)]
            }
            Moment::Failed { input, failure } => {
                vec![failed("SHIPMENT_ERROR", &input.business_key, failure)]
            }
            Moment::Undone { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::PROVIDER_DOWN;
    use crate::fulfilment::testing::told;
    use crate::order::sample;
    use crate::ports::Ports;
    use amends::Failure;

    #[test]
    fn a_parcel_is_told_when_it_is_shipped_and_when_it_is_not() {
        let step = Ship::new(Ports::instant().carrier);
        let input = &ShipRequest::of(&sample()).unwrap();
        let output = &Shipped { shipment_id: "sh_1".into(), tracking_number: "TR1".into() };
        assert_eq!(
            told(&step, Moment::Done { input, output }),
            [(
                "SHIPPED",
                json!({
                    "business_key": "acme/5940139491234",
                    "shipment_id": "sh_1",
                    "tracking_number": "TR1",
                })
            )]
        );
        let failure = &Failure::new(PROVIDER_DOWN, "1 Jalan Satu");
        assert_eq!(
            told(&step, Moment::Failed { input, failure }),
            [(
                "SHIPMENT_ERROR",
                json!({ "business_key": "acme/5940139491234", "code": "PROVIDER_DOWN" })
            )]
        );
    }
}
