//! Takes the customer's money; undone by giving it back.

use std::sync::Arc;

use amends::{
    Call, Declaration, Event, Ledger, Moment, Money, Movement, MovementKind, Step, StepError, Undo,
    Undone,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{KEY_WINDOW, PAYMENT, PAYMENT_SETTLES, STEP_TIMEOUT, failed, patience};
use crate::order::Order;
use crate::ports::Payments;
use crate::ports::payments::Refund;

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
    /// The key under which it was asked for, for whoever gives a part of it back. Charges of the
    /// first version are without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charge_key: Option<String>,
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
            .settles_within(PAYMENT_SETTLES)
            .undo()
            .retry(patience())
            .timeout(STEP_TIMEOUT)
            .through(PAYMENT)
    }

    async fn run(&self, call: &Call, input: &ChargeRequest) -> Result<Charged, StepError> {
        let charge = self.payments.charge(call.key(), &input.business_key, input.total).await?;
        Ok(Charged { charge_id: charge.charge_id, charge_key: Some(call.key().to_owned()) })
    }

    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        match moment {
            Moment::Done { input, output } => vec![confirmed(input, &output.charge_id)],
            Moment::Failed { input, failure } => {
                vec![failed("PAYMENT_FAILED", &input.business_key, failure)]
            }
            Moment::Undone { input, output, undone } if undone.applied => {
                vec![refunded(input, output.map(|it| it.charge_id.as_str()), undone)]
            }
            Moment::Undone { .. } => Vec::new(),
        }
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        match moment {
            Moment::Done { input, output } => {
                vec![movement(MovementKind::Capture, input.total, &output.charge_id)]
            }
            Moment::Undone { input, output, undone } if undone.applied => {
                input.moved_by(undone, output.is_some())
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
        output: Option<&Charged>,
    ) -> Result<Undone, StepError> {
        let left = input.left(call.ledger());
        if left.amount_minor == 0 {
            return Ok(Undone::nothing());
        }
        let refund = self.payments.refund(call.key(), call.forward_key(), left).await?;
        Ok(refund.map_or_else(Undone::nothing, |Refund { refund_id, amount }| {
            let was_known = output.is_some();
            let moved = input.given_back(call.ledger(), was_known, amount, &refund_id);
            Undone::by(refund_id).moved(moved)
        }))
    }
}

impl ChargeRequest {
    /// What is left of the charge by this ledger. A charge whose answer was lost is not in it, and
    /// is taken to be whole.
    pub(super) fn left(&self, ledger: &Ledger) -> Money {
        let Money { amount_minor: total, currency } = self.total;
        let net = ledger.captured_net(currency).unwrap_or_default();
        let taken = if is_captured(ledger) { net } else { net.saturating_add(total) };
        Money { amount_minor: taken.clamp(0, total), currency }
    }

    /// What has moved by an undo, be it that a person has found it out. `was_known`: that the charge
    /// had been carried out.
    pub(super) fn moved_by(&self, undone: &Undone, was_known: bool) -> Vec<Movement> {
        undone.moved.clone().unwrap_or_else(|| {
            let (ledger, refund_id) = (undone.ledger(), undone.reference.as_deref());
            let refund_id = refund_id.unwrap_or_default();
            self.given_back(ledger, was_known, self.left(ledger), refund_id)
        })
    }

    /// A refund of this amount. If the answer to the charge was lost, its capture is in no record,
    /// and the refund is the proof of it.
    pub(super) fn given_back(
        &self,
        ledger: &Ledger,
        was_known: bool,
        amount: Money,
        refund_id: &str,
    ) -> Vec<Movement> {
        let refund = movement(MovementKind::Refund, amount, refund_id);
        if was_known || is_captured(ledger) {
            return vec![refund];
        }
        vec![movement(MovementKind::Capture, self.total, refund_id), refund]
    }
}

fn is_captured(ledger: &Ledger) -> bool {
    ledger.movements.iter().any(|movement| movement.kind == MovementKind::Capture)
}

/// What is told of money that was taken.
pub(super) fn confirmed(charge: &ChargeRequest, charge_id: &str) -> Event {
    let confirmed = json!({
        "business_key": charge.business_key,
        "charge_id": charge_id,
        "amount_minor": charge.total.amount_minor,
        "currency": charge.total.currency,
    });
    Event::new("PAYMENT_CONFIRMED", &confirmed)
}

/// What is told of money that was given back.
pub(super) fn refunded(charge: &ChargeRequest, charge_id: Option<&str>, undone: &Undone) -> Event {
    let moved = charge.moved_by(undone, charge_id.is_some());
    let refunds = moved.iter().filter(|it| it.kind == MovementKind::Refund);
    let refunded = json!({
        "business_key": charge.business_key,
        "charge_id": charge_id,
        "refund_id": undone.reference,
        "amount_minor": refunds.map(|it| it.money.amount_minor).sum::<i64>(),
        "currency": charge.total.currency,
    });
    Event::new("PAYMENT_REFUNDED", &refunded)
}

pub(super) fn movement(kind: MovementKind, money: Money, reference: &str) -> Movement {
    Movement { kind, money, reference: reference.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::PAYMENT_DECLINED;
    use crate::fulfilment::testing::told;
    use crate::order::sample;
    use crate::ports::Ports;
    use amends::Failure;
    use futures::FutureExt;

    fn step() -> Charge {
        Charge::new(Ports::instant().payments)
    }

    fn charged() -> Charged {
        Charged { charge_id: "ch_1".into(), charge_key: None }
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
        assert_eq!(Ledger::of(movements).captured_net(sample().currency), Some(0));
    }

    fn ledger(movements: &[(MovementKind, i64)]) -> Ledger {
        let currency = sample().currency;
        let money = |amount_minor| Money { amount_minor, currency };
        let movements = movements.iter().map(|&(kind, amount)| movement(kind, money(amount), "x"));
        Ledger::of(movements.collect())
    }

    fn net_after(before: Ledger, output: Option<&Charged>) -> Option<i64> {
        let (input, call) = (&ChargeRequest::of(&sample()), Call::for_test("it/charge").undoing());
        let (step, call) = (step(), call.with_ledger(before.clone()));
        let undone = step.undo(&call, input, output).now_or_never().unwrap().unwrap();
        let undone = undone.with_ledger(before.clone());
        let movements = step.money(Moment::Undone { input, output, undone: &undone });
        let movements = [before.movements, movements].concat();
        Ledger::of(movements).captured_net(sample().currency)
    }

    #[test]
    fn an_undo_gives_back_what_is_left_and_no_more() {
        use MovementKind::{Capture, Refund};
        let total = sample().total_minor;
        let output = &charged();
        for refunds in [&[][..], &[1000], &[1000, 490], &[total]] {
            let refunds: Vec<_> = refunds.iter().map(|&amount| (Refund, amount)).collect();
            let known = [vec![(Capture, total)], refunds.clone()].concat();
            assert_eq!(net_after(ledger(&known), Some(output)), Some(0), "{known:?}");
        }
        // A person has given some of it back by hand, while nobody knew of the capture.
        assert_eq!(net_after(ledger(&[(Refund, 1000)]), None), Some(0));
        assert_eq!(net_after(ledger(&[]), None), Some(0));
    }

    #[test]
    fn what_a_person_has_found_undone_adds_up_with_what_was_given_back_before() {
        use MovementKind::{Capture, Refund};
        let input = &ChargeRequest::of(&sample());
        let before = ledger(&[(Capture, sample().total_minor), (Refund, 1000)]);
        let undone = &Undone::by("by hand").with_ledger(before.clone());
        let found = step().money(Moment::Undone { input, output: Some(&charged()), undone });
        let movements = [before.movements, found].concat();
        assert_eq!(Ledger::of(movements).captured_net(sample().currency), Some(0));
        let told = told(&step(), Moment::Undone { input, output: Some(&charged()), undone });
        assert_eq!(told[0].1["amount_minor"], json!(sample().total_minor - 1000));
    }
}
