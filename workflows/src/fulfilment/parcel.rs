//! One of several parcels of an order: a workflow of its own, whose parent is the order.

use amends::{Halt, Saga, Steps, Workflow};
use serde::{Deserialize, Serialize};

use super::notify::{NoticeRequest, Notify};
use super::ship::{Ship, ShipRequest, Shipped};
use crate::ports::Ports;

/// The workflow that sends one parcel and says so.
pub struct Parcel {
    ship: Ship,
    notify: Notify,
}

/// What is in a parcel, where it goes, and who is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParcelRequest {
    /// What the carrier is given.
    pub shipment: ShipRequest,
    /// What the customer is told, if somebody can be written to.
    pub notice: Option<NoticeRequest>,
}

impl Parcel {
    /// The workflow, with the providers its steps talk to.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Self { ship: Ship::new(ports.carrier), notify: Notify::new(ports.mail) }
    }
}

impl Workflow for Parcel {
    const NAME: &'static str = "parcel";
    const VERSION: u32 = 1;
    type Input = ParcelRequest;
    type Output = Shipped;

    fn steps(&self) -> Steps {
        Steps::new().step(&self.ship).step(&self.notify)
    }

    async fn run(&self, saga: &Saga, parcel: ParcelRequest) -> Result<Shipped, Halt> {
        let shipped = saga.run(&self.ship, &parcel.shipment).await?; // the pivot
        if let Some(notice) = &parcel.notice {
            saga.run(&self.notify, notice).await?;
        }
        Ok(shipped)
    }
}
