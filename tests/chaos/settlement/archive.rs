//! What a settlement has done by a child: an instance of its own, undone together with its parent.

use amends::{Halt, Saga, Steps, Workflow};
use amends_workflows::fulfilment::reserve_stock::{ReserveStock, StockRequest};
use amends_workflows::order::Item;
use amends_workflows::ports::Ports;

/// The name under which a settlement starts it; its business key ends with it.
pub(super) const CHILD: &str = "archive";

/// The workflow of the child: it keeps room on a shelf.
pub(crate) struct Archiving {
    reserve: ReserveStock,
}

impl Archiving {
    pub(super) fn new(ports: Ports) -> Self {
        Self { reserve: ReserveStock::new(ports.stock) }
    }
}

impl Workflow for Archiving {
    const NAME: &'static str = "archiving";
    const VERSION: u32 = 1;
    type Input = String;
    type Output = ();

    fn steps(&self) -> Steps {
        Steps::new().step(&self.reserve)
    }

    async fn run(&self, saga: &Saga, order_id: String) -> Result<(), Halt> {
        let items = vec![Item { sku: "SHELF".to_owned(), quantity: 1 }];
        let business_key = format!("{order_id}/{CHILD}");
        saga.run(&self.reserve, &StockRequest { business_key, items }).await.map(drop)
    }
}
