//! Reserves the articles of an order; undone by letting them go.

use std::sync::Arc;

use amends::{Call, Declaration, Event, Moment, Step, StepError, Undo, Undone};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{OWN_SYSTEMS_SETTLE, STEP_TIMEOUT, STOCK, patience};
use crate::order::{Item, Order};
use crate::ports::Stock;

/// The step that keeps stock for an order.
#[derive(Clone)]
pub struct ReserveStock {
    stock: Arc<dyn Stock>,
}

/// What is to be reserved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StockRequest {
    /// The order's business key.
    pub business_key: String,
    /// Articles and quantities.
    pub items: Vec<Item>,
}

/// What was reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// The stock system's reference.
    pub reservation_id: String,
}

impl ReserveStock {
    /// The step, with the stock system it asks.
    #[must_use]
    pub fn new(stock: Arc<dyn Stock>) -> Self {
        Self { stock }
    }
}

impl StockRequest {
    /// All that is to be handed over. None: there is nothing.
    #[must_use]
    pub fn of(order: &Order) -> Option<Self> {
        let items = order.items();
        (!items.is_empty()).then(|| Self { business_key: order.business_key(), items })
    }
}

impl Step for ReserveStock {
    const NAME: &'static str = "reserve_stock";
    type Input = StockRequest;
    type Output = Reserved;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent()
            .settles_within(OWN_SYSTEMS_SETTLE)
            .undo()
            .retry(patience())
            .timeout(STEP_TIMEOUT)
            .through(STOCK)
    }

    async fn run(&self, call: &Call, input: &StockRequest) -> Result<Reserved, StepError> {
        let reservation = self.stock.reserve(call.key(), &input.business_key, &input.items).await?;
        Ok(Reserved { reservation_id: reservation.reservation_id })
    }

    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        match moment {
            Moment::Undone { input, output, undone } if undone.applied => {
                let released = json!({
                    "business_key": input.business_key,
                    "reservation_id": output.map(|reserved| &reserved.reservation_id),
                    "release_id": undone.reference,
                });
                vec![Event::new("STOCK_RELEASED", &released)]
            }
            Moment::Done { .. } | Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

impl Undo for ReserveStock {
    async fn undo(
        &self,
        call: &Call,
        _: &StockRequest,
        _: Option<&Reserved>,
    ) -> Result<Undone, StepError> {
        self.stock.release(call.key(), call.forward_key()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fulfilment::testing::told;
    use crate::order::sample;
    use crate::ports::Ports;

    #[test]
    fn only_stock_that_was_let_go_is_told() {
        let step = ReserveStock::new(Ports::instant().stock);
        let input = &StockRequest::of(&sample()).unwrap();
        let output = &Reserved { reservation_id: "rs_1".into() };
        assert_eq!(told(&step, Moment::Done { input, output }), []);
        let (released, nothing) = (&Undone::by("rl_1"), &Undone::nothing());
        assert_eq!(
            told(&step, Moment::Undone { input, output: Some(output), undone: released }),
            [(
                "STOCK_RELEASED",
                json!({
                    "business_key": "acme/5940139491234",
                    "reservation_id": "rs_1",
                    "release_id": "rl_1",
                })
            )]
        );
        let unknown = told(&step, Moment::Undone { input, output: None, undone: released });
        assert_eq!(unknown[0].1["reservation_id"], json!(null));
        assert_eq!(told(&step, Moment::Undone { input, output: None, undone: nothing }), []);
    }

    #[test]
    fn every_line_that_is_handed_over_is_asked_for() {
        let mut order = sample();
        assert_eq!(StockRequest::of(&order).unwrap().items.len(), order.lines.len());
        order.lines[0].handed_over = Some(0);
        order.lines[1].handed_over = Some(1);
        let items = StockRequest::of(&order).unwrap().items;
        assert_eq!(items, [Item { sku: "CAP/RED".into(), quantity: 1 }]);
        order.lines[1].handed_over = Some(0);
        assert_eq!(StockRequest::of(&order), None);
    }
}
