//! Takes a deposit from a provider that does what it is asked for once under one key, and knows
//! nothing of an undo that came before what it undoes.

use std::sync::Arc;
use std::time::Duration;

use amends::{Call, Declaration, Moment, Movement, Step, StepError, Undo, Undone};
use serde_json::json;

use super::Dispatch;
use crate::money;
use crate::provider::{Provider, impatience};

#[derive(Clone)]
pub(super) struct Deposit {
    pub(super) provider: Arc<Provider>,
    /// How long the provider may still take money that it was asked for.
    pub(super) settles: Duration,
}

impl Step for Deposit {
    const NAME: &'static str = "deposit";
    type Input = Dispatch;
    type Output = String;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent()
            .settles_within(self.settles)
            .undo()
            .retry(impatience())
            .undo_retry(impatience())
    }

    async fn run(&self, call: &Call, order: &Dispatch) -> Result<String, StepError> {
        // True of this attempt, which asks nobody. Of the one before it says nothing.
        if order.is_impatient && call.attempt > 1 {
            return Err(StepError::fail("CUSTOMER_GONE", "nobody waits for the deposit any more"));
        }
        let body = json!({
            "order_id": order.order_id,
            "amount_minor": order.total.amount_minor,
            "currency": order.total.currency,
        });
        self.provider.ask("/payments/charges", call.key(), &body, "charge_id").await?.reference()
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        match moment {
            Moment::Done { input, output } => money::taken(input.total, output),
            Moment::Undone { input, output, undone } => {
                money::given_back(input.total, undone, output.is_some())
            }
            Moment::Failed { .. } => Vec::new(),
        }
    }
}

impl Undo for Deposit {
    async fn undo(
        &self,
        call: &Call,
        _: &Dispatch,
        _: Option<&String>,
    ) -> Result<Undone, StepError> {
        let body = json!({ "charge_key": call.forward_key() });
        let answer = self.provider.ask("/payments/refunds", call.key(), &body, "refund_id").await?;
        Ok(answer.undone())
    }
}
