//! Has a label printed by a provider that cannot even be asked: it is tried once, and no more.

use std::sync::Arc;
use std::time::Duration;

use amends::{Call, Declaration, Step, StepError, Undo, Undone};
use chrono::TimeDelta;
use serde_json::json;

use super::Settlement;
use crate::provider::{Applied, Provider, impatience};

#[derive(Clone)]
pub(super) struct Label {
    pub(super) provider: Arc<Provider>,
    /// How long the printer may still print what it was asked for.
    pub(super) settles: Duration,
}

impl Step for Label {
    const NAME: &'static str = "label";
    type Input = Settlement;
    type Output = Applied;

    fn declare(&self) -> Declaration<Self> {
        Declaration::at_most_once()
            .settles_within(self.settles)
            .undo()
            .retry(impatience())
            .undo_retry(impatience())
    }

    async fn run(&self, call: &Call, order: &Settlement) -> Result<Applied, StepError> {
        let body = json!({
            "order_id": order.order_id,
            "amount_minor": order.total.amount_minor,
            "currency": order.total.currency,
        });
        // To the stand-ins, a label is an invoice: something that can be issued and voided.
        self.provider.apply("/invoices", call, &body, "invoice_id").await
    }
}

impl Undo for Label {
    async fn undo(
        &self,
        call: &Call,
        order: &Settlement,
        output: Option<&Applied>,
    ) -> Result<Undone, StepError> {
        let applied = match output {
            Some(applied) => vec![applied.clone()],
            None => self.provider.seen(call, ("issue", &order.order_id), TimeDelta::zero()).await?,
        };
        self.provider.take_back("/invoices/voids", call, ("invoice_key", "void_id"), &applied).await
    }
}
