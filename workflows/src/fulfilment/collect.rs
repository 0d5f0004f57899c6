//! Takes the customer's money where the shop's platform has it or keeps it; undone by giving it back
//! there.
//!
//! What was paid there is in the ledger from here on, so that an undo gives back all of it, once.

use std::sync::Arc;

use amends::{
    Call, Declaration, Event, Moment, Movement, MovementKind, Step, StepError, Undo, Undone,
};
use serde::{Deserialize, Serialize};

use super::charge::{ChargeRequest, confirmed, movement, refunded};
use super::{KEY_WINDOW, PAYMENT_SETTLES, SHOP, STEP_TIMEOUT, failed, patience};
use crate::order::{Order, Payment};
use crate::ports::Shop;
use crate::ports::payments::Refund;

/// The step that takes the money from the shop's platform.
#[derive(Clone)]
pub struct Collect {
    shop: Arc<dyn Shop>,
}

/// What is to be taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectRequest {
    /// How much, and for which order.
    #[serde(flatten)]
    pub charge: ChargeRequest,
    /// What the platform knows it by.
    pub reference: String,
    /// Whether the platform has it already.
    pub is_paid: bool,
}

/// What was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// The platform's reference.
    pub charge_id: String,
    /// The key under which it was captured, if it was not paid before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture_key: Option<String>,
}

impl Collect {
    /// The step, with the platform it asks.
    #[must_use]
    pub fn new(shop: Arc<dyn Shop>) -> Self {
        Self { shop }
    }
}

impl CollectRequest {
    /// The whole order, if its money is with the shop's platform.
    #[must_use]
    pub fn of(order: &Order) -> Option<Self> {
        let (reference, is_paid) = match &order.payment {
            Payment::Authorised { reference } => (reference, false),
            Payment::Paid { reference } => (reference, true),
            Payment::ToCharge
            | Payment::OnDelivery
            | Payment::OnTerms { .. }
            | Payment::NothingDue => return None,
        };
        Some(Self { charge: ChargeRequest::of(order), reference: reference.clone(), is_paid })
    }
}

impl Step for Collect {
    const NAME: &'static str = "collect";
    type Input = CollectRequest;
    type Output = Collected;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent_within(KEY_WINDOW)
            .settles_within(PAYMENT_SETTLES)
            .undo()
            .retry(patience())
            .timeout(STEP_TIMEOUT)
            .through(SHOP)
    }

    async fn run(&self, call: &Call, input: &CollectRequest) -> Result<Collected, StepError> {
        if input.is_paid {
            return Ok(Collected { charge_id: input.reference.clone(), capture_key: None });
        }
        let ChargeRequest { business_key, total } = &input.charge;
        let taken = self.shop.capture(call.key(), business_key, &input.reference, *total).await?;
        let capture_key = Some(call.key().to_owned());
        Ok(Collected { charge_id: taken.capture_id, capture_key })
    }

    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        match moment {
            Moment::Done { input, output } => vec![confirmed(&input.charge, &output.charge_id)],
            Moment::Failed { input, failure } => {
                vec![failed("PAYMENT_FAILED", &input.charge.business_key, failure)]
            }
            Moment::Undone { input, output, undone } if undone.applied => {
                vec![refunded(&input.charge, output.map(|it| it.charge_id.as_str()), undone)]
            }
            Moment::Undone { .. } => Vec::new(),
        }
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        match moment {
            Moment::Done { input, output } => {
                vec![movement(MovementKind::Capture, input.charge.total, &output.charge_id)]
            }
            Moment::Undone { input, output, undone } if undone.applied => {
                input.charge.moved_by(undone, output.is_some())
            }
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

impl Undo for Collect {
    async fn undo(
        &self,
        call: &Call,
        input: &CollectRequest,
        output: Option<&Collected>,
    ) -> Result<Undone, StepError> {
        let left = input.charge.left(call.ledger());
        if left.amount_minor == 0 {
            return Ok(Undone::nothing());
        }
        let refund = if input.is_paid {
            let (order, reference) = (&input.charge.business_key, &input.reference);
            Some(self.shop.refund_payment(call.key(), order, reference, left).await?)
        } else {
            self.shop.refund_capture(call.key(), call.forward_key(), left).await?
        };
        Ok(refund.map_or_else(Undone::nothing, |Refund { refund_id, amount }| {
            let was_known = output.is_some();
            let moved = input.charge.given_back(call.ledger(), was_known, amount, &refund_id);
            Undone::by(refund_id).moved(moved)
        }))
    }
}

#[cfg(test)]
mod tests {
    use amends::Ledger;
    use futures::FutureExt;

    use super::*;
    use crate::order::sample;
    use crate::ports::Ports;

    fn step() -> Collect {
        Collect::new(Ports::instant().shop)
    }

    fn request(payment: Payment) -> Option<CollectRequest> {
        CollectRequest::of(&Order { payment, ..sample() })
    }

    fn reference() -> String {
        "5940139491234".to_owned()
    }

    #[test]
    fn only_what_the_shop_has_or_keeps_is_collected() {
        let paid = request(Payment::Paid { reference: reference() }).unwrap();
        let authorised = request(Payment::Authorised { reference: reference() }).unwrap();
        assert!(paid.is_paid && !authorised.is_paid);
        let others = [
            Payment::ToCharge,
            Payment::OnDelivery,
            Payment::OnTerms { due_at: None },
            Payment::NothingDue,
        ];
        assert!(others.into_iter().all(|other| request(other).is_none()));
    }

    #[test]
    fn what_the_shop_has_is_taken_from_nobody_and_given_back_where_it_is() {
        for (payment, taken) in [
            (Payment::Paid { reference: reference() }, reference()),
            (Payment::Authorised { reference: reference() }, "capture-it/collect".to_owned()),
        ] {
            let input = &request(payment).unwrap();
            let call = Call::for_test("it/collect");
            let output = &step().run(&call, input).now_or_never().unwrap().unwrap();
            assert_eq!(output.charge_id, taken);
            let movements = step().money(Moment::Done { input, output });
            let ledger = Ledger::of(movements);
            assert_eq!(ledger.captured_net(sample().currency), Some(7490));

            let call = Call::for_test("it/collect").undoing().with_ledger(ledger.clone());
            let undone = step().undo(&call, input, Some(output)).now_or_never().unwrap().unwrap();
            let undone = &undone.with_ledger(ledger.clone());
            let back = step().money(Moment::Undone { input, output: Some(output), undone });
            let movements = [ledger.movements, back].concat();
            assert_eq!(Ledger::of(movements).captured_net(sample().currency), Some(0));
        }
    }
}
