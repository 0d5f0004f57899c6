//! Takes the customer's money; undone by giving it back.

use std::sync::Arc;

use amends::{
    Call, Declaration, Event, Moment, Money, Movement, MovementKind, Step, StepError, Undo, Undone,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{KEY_WINDOW, PAYMENT, STEP_TIMEOUT, failed, patience};
use crate::order::Order;
use crate::ports::Payments;

/// The step that takes the customer's money.
#[derive(Clone)]
pub struct Charge {
    payments: Arc<dyn Payments>,
}

/// What is to be charged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChargeRequest {
    /// The order's business key.
    pub business_key: String,
    /// What the customer pays.
    pub total: Money,
}

/// What was charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// The payment provider's reference.
    pub charge_id: String,
}

impl Charge {
    /// The step, with the payment provider it asks.
    #[must_use]
    pub fn new(payments: Arc<dyn Payments>) -> Self {
        Self { payments }
    }
}

impl ChargeRequest {
    /// The whole order in one charge.
    #[must_use]
    pub fn of(order: &Order) -> Self {
        Self { business_key: order.business_key(), total: order.total() }
    }
}

impl Step for Charge {
    const NAME: &'static str = "charge";
    type Input = ChargeRequest;
    type Output = Charged;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent_within(KEY_WINDOW)
            .undo()
            .retry(patience())
            .timeout(STEP_TIMEOUT)
            .through(PAYMENT)
    }

    async fn run(&self, call: &Call, input: &ChargeRequest) -> Result<Charged, StepError> {
        let charge = self.payments.charge(call.key(), &input.business_key, input.total).await?;
        Ok(Charged { charge_id: charge.charge_id })
    }

    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        match moment {
            Moment::Done { input, output } => {
                let confirmed = json!({
                    "business_key": input.business_key,
                    "charge_id": output.charge_id,
                    "amount_minor": input.total.amount_minor,
                    "currency": input.total.currency,
                });
                vec![Event::new("PAYMENT_CONFIRMED", &confirmed)]
            }
            Moment::Failed { input, failure } => {
                vec![failed("PAYMENT_FAILED", &input.business_key, failure)]
            }
            Moment::Undone { input, output, undone } if undone.applied => {
                let refunded = json!({
                    "business_key": input.business_key,
                    "charge_id": output.map(|charged| &charged.charge_id),
                    "refund_id": undone.reference,
                    "amount_minor": input.total.amount_minor,
                    "currency": input.total.currency,
                });
                vec![Event::new("PAYMENT_REFUNDED", &refunded)]
            }
            Moment::Undone { .. } => Vec::new(),
        }
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        let movement = |kind, input: &ChargeRequest, reference: &str| Movement {
            kind,
            money: input.total,
            reference: reference.to_owned(),
        };
        match moment {
            Moment::Done { input, output } => {
                vec![movement(MovementKind::Capture, input, &output.charge_id)]
            }
            Moment::Undone { input, output, undone } if undone.applied => {
                let refund_id = undone.reference.as_deref().unwrap_or_default();
                let refund = movement(MovementKind::Refund, input, refund_id);
                match output {
                    Some(_) => vec![refund],
                    // The answer to the charge was lost, so its capture is in no record. The
                    // refund is the proof of it.
                    None => vec![movement(MovementKind::Capture, input, refund_id), refund],
                }
            }
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

impl Undo for Charge {
    async fn undo(
        &self,
        call: &Call,
        input: &ChargeRequest,
        _: Option<&Charged>,
    ) -> Result<Undone, StepError> {
        self.payments.refund(call.key(), call.forward_key(), input.total).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::PAYMENT_DECLINED;
    use crate::fulfilment::testing::told;
    use crate::order::sample;
    use crate::ports::Ports;
    use amends::{Failure, Ledger};

    fn step() -> Charge {
        Charge::new(Ports::instant().payments)
    }

    fn charged() -> Charged {
        Charged { charge_id: "ch_1".into() }
    }

    #[test]
    fn a_payment_is_told_when_it_is_taken_refused_and_given_back() {
        let input = &ChargeRequest::of(&sample());
        let output = &charged();
        assert_eq!(
            told(&step(), Moment::Done { input, output }),
            [(
                "PAYMENT_CONFIRMED",
                json!({
                    "business_key": "acme/5940139491234",
                    "charge_id": "ch_1",
                    "amount_minor": 7490,
                    "currency": "MYR",
                })
            )]
        );
        let failure = &Failure::new(PAYMENT_DECLINED, "Jane's card");
        assert_eq!(
            told(&step(), Moment::Failed { input, failure }),
            [(
                "PAYMENT_FAILED",
                json!({ "business_key": "acme/5940139491234", "code": "PAYMENT_DECLINED" })
            )]
        );
        let (refunded, nothing) = (&Undone::by("re_1"), &Undone::nothing());
        assert_eq!(
            told(&step(), Moment::Undone { input, output: Some(output), undone: refunded }),
            [(
                "PAYMENT_REFUNDED",
                json!({
                    "business_key": "acme/5940139491234",
                    "charge_id": "ch_1",
                    "refund_id": "re_1",
                    "amount_minor": 7490,
                    "currency": "MYR",
                })
            )]
        );
        assert_eq!(told(&step(), Moment::Undone { input, output: None, undone: nothing }), []);
    }

    #[test]
    fn money_moves_with_the_charge_and_with_its_refund_only() {
        let (input, output) = (&ChargeRequest::of(&sample()), &charged());
        let moved = |kind, reference: &str| Movement {
            kind,
            money: sample().total(),
            reference: reference.to_owned(),
        };
        let capture = moved(MovementKind::Capture, "ch_1");
        assert_eq!(step().money(Moment::Done { input, output }), [capture]);
        let failure = &Failure::new(PAYMENT_DECLINED, "no");
        assert_eq!(step().money(Moment::Failed { input, failure }), []);
        let undone = &Undone::by("re_1");
        let refund = moved(MovementKind::Refund, "re_1");
        assert_eq!(step().money(Moment::Undone { input, output: Some(output), undone }), [refund]);
        let undone = &Undone::nothing();
        for output in [Some(output), None] {
            assert_eq!(step().money(Moment::Undone { input, output, undone }), []);
        }
    }

    #[test]
    fn a_charge_that_only_its_refund_brought_to_light_leaves_the_ledger_even() {
        let input = &ChargeRequest::of(&sample());
        let undone = &Undone::by("re_1");
        let movements = step().money(Moment::Undone { input, output: None, undone });
        assert_eq!(movements.len(), 2);
        assert_eq!(Ledger { movements }.captured_net(sample().currency), Some(0));
    }
}
