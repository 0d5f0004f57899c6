//! Takes the money of a provider that can be asked: an unknown outcome is looked up, never tried.

use std::sync::Arc;
use std::time::Duration;

use amends::{Call, Declaration, Moment, Movement, Probe, Probed, Step, StepError, Undo, Undone};
use chrono::TimeDelta;
use serde_json::json;

use super::Settlement;
use crate::money;
use crate::provider::{Applied, Provider, impatience};

/// How far the list of charges is behind.
const LAG: TimeDelta = TimeDelta::seconds(1);
/// One charge in so many is given a name that no database keeps: it is there, and its record is
/// refused.
const UNNAMEABLE_EACH: i64 = 40;

#[derive(Clone)]
pub(super) struct Charge {
    pub(super) provider: Arc<Provider>,
    /// How long the provider may take to show what it did.
    pub(super) quiet: Duration,
}

impl Step for Charge {
    const NAME: &'static str = "charge";
    type Input = Settlement;
    type Output = Applied;

    fn declare(&self) -> Declaration<Self> {
        let (retry, undo_retry) = (impatience(), impatience());
        Declaration::queryable(self.quiet).undo().retry(retry).undo_retry(undo_retry)
    }

    async fn run(&self, call: &Call, order: &Settlement) -> Result<Applied, StepError> {
        let body = json!({
            "order_id": order.order_id,
            "amount_minor": order.total.amount_minor,
            "currency": order.total.currency,
        });
        let mut applied =
            self.provider.apply("/payments/charges", call, &body, "charge_id").await?;
        let (_, sent) = Applied::parts(&applied.key);
        if sent.is_some_and(|sent| sent.at.timestamp_micros() % UNNAMEABLE_EACH == 0) {
            applied.reference.push('\0');
        }
        Ok(applied)
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        match moment {
            Moment::Done { input, output } => money::taken(input.total, &output.reference),
            Moment::Undone { input, output, undone } => {
                money::given_back(input.total, undone, output.is_some())
            }
            Moment::Failed { .. } => Vec::new(),
        }
    }
}

impl Undo for Charge {
    async fn undo(
        &self,
        call: &Call,
        order: &Settlement,
        output: Option<&Applied>,
    ) -> Result<Undone, StepError> {
        let applied = match output {
            Some(applied) => vec![applied.clone()],
            None => self.provider.seen(call, ("charge", &order.order_id), LAG).await?,
        };
        self.provider
            .take_back("/payments/refunds", call, ("charge_key", "refund_id"), &applied)
            .await
    }
}

impl Probe for Charge {
    async fn probe(&self, call: &Call, order: &Settlement) -> Result<Probed<Applied>, StepError> {
        let mut seen = self.provider.seen(call, ("charge", &order.order_id), LAG).await?;
        Ok(seen.pop().map_or(Probed::NotFound, Probed::Applied))
    }
}
