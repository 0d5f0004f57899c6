//! A parcel of a dispatch: reserved, packed, and handed over, from when on nobody gets it back.

use std::sync::Arc;
use std::time::Duration;

use amends::{Call, Declaration, Halt, Saga, Step, StepError, Steps, Workflow};
use amends_workflows::fulfilment::reserve_stock::{ReserveStock, StockRequest};
use amends_workflows::order::Item;
use amends_workflows::ports::{Mail, Ports};
use tokio::time::sleep;

use crate::provider::impatience;

/// How long a parcel takes to be packed at most, as a rule.
const PACKING_MILLISECONDS_MAX: u64 = 1_500;
/// One parcel in so many takes so long: longer than a server lives while all are killed in a row.
const BULKY_EACH: u64 = 10;
const BULKY_MILLISECONDS: u64 = 12_000;

/// The workflow.
pub(crate) struct Parcelling {
    reserve: ReserveStock,
    pack: Pack,
    hand_over: HandOver,
}

impl Parcelling {
    pub(super) fn new(ports: Ports) -> Self {
        Self {
            reserve: ReserveStock::new(ports.stock),
            pack: Pack,
            hand_over: HandOver(ports.mail),
        }
    }
}

impl Workflow for Parcelling {
    const NAME: &'static str = "parcelling";
    const VERSION: u32 = 1;
    /// The business key.
    type Input = String;
    type Output = ();

    fn steps(&self) -> Steps {
        Steps::new().step(&self.reserve).step(&self.pack).step(&self.hand_over)
    }

    async fn run(&self, saga: &Saga, business_key: String) -> Result<(), Halt> {
        let items = vec![Item { sku: "TEE-M-BLK".to_owned(), quantity: 1 }];
        let milliseconds = match saga.random() {
            bulky if bulky % BULKY_EACH == 0 => BULKY_MILLISECONDS,
            handy => handy % PACKING_MILLISECONDS_MAX,
        };
        saga.run(&self.reserve, &StockRequest { business_key: business_key.clone(), items })
            .await?;
        saga.run(&self.pack, &milliseconds).await?;
        saga.run(&self.hand_over, &business_key).await
    }
}

/// Packs it, which takes its time and leaves nothing to undo.
#[derive(Clone)]
struct Pack;

impl Step for Pack {
    const NAME: &'static str = "pack";
    type Input = u64;
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().nothing_to_undo()
    }

    async fn run(&self, _: &Call, milliseconds: &u64) -> Result<(), StepError> {
        sleep(Duration::from_millis(*milliseconds)).await;
        Ok(())
    }
}

/// Tells the carrier to fetch it. The stand-in is that of mail: what was sent is gone, and nothing
/// is ever refused.
#[derive(Clone)]
struct HandOver(Arc<dyn Mail>);

impl Step for HandOver {
    const NAME: &'static str = "hand_over";
    type Input = String;
    type Output = ();

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().pivot().retry(impatience())
    }

    async fn run(&self, call: &Call, business_key: &String) -> Result<(), StepError> {
        let sent = self.0.send(call.key(), business_key, "carrier@example.com", "fetch_it");
        sent.await.map(drop)
    }
}
