//! Issues the invoice of an order; undone by voiding it, which leaves its number used.

use std::sync::Arc;

use amends::{Call, Declaration, Event, Moment, Money, Step, StepError, Undo, Undone};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{INVOICES, OWN_SYSTEMS_SETTLE, STEP_TIMEOUT, patience};
use crate::order::Order;
use crate::ports::Invoices;

/// The step that issues the invoice.
#[derive(Clone)]
pub struct IssueInvoice {
    invoices: Arc<dyn Invoices>,
}

/// What is to be invoiced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InvoiceRequest {
    /// The order's business key.
    pub business_key: String,
    /// What the customer pays.
    pub total: Money,
}

/// What was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoiced {
    /// The invoice system's reference.
    pub invoice_id: String,
    /// The number printed on the invoice.
    pub invoice_number: String,
}

impl IssueInvoice {
    /// The step, with the invoice system it asks.
    #[must_use]
    pub fn new(invoices: Arc<dyn Invoices>) -> Self {
        Self { invoices }
    }
}

impl InvoiceRequest {
    /// The whole order on one invoice.
    #[must_use]
    pub fn of(order: &Order) -> Self {
        Self { business_key: order.business_key(), total: order.total() }
    }
}

impl Step for IssueInvoice {
    const NAME: &'static str = "issue_invoice";
    type Input = InvoiceRequest;
    type Output = Invoiced;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent()
            .settles_within(OWN_SYSTEMS_SETTLE)
            .undo()
            .retry(patience())
            .timeout(STEP_TIMEOUT)
            .through(INVOICES)
    }

    async fn run(&self, call: &Call, input: &InvoiceRequest) -> Result<Invoiced, StepError> {
        let invoice = self.invoices.issue(call.key(), &input.business_key, input.total).await?;
        Ok(Invoiced { invoice_id: invoice.invoice_id, invoice_number: invoice.number })
    }

    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        match moment {
            Moment::Done { input, output } => {
                let created = json!({
                    "business_key": input.business_key,
                    "invoice_id": output.invoice_id,
                    "invoice_number": output.invoice_number,
                    "amount_minor": input.total.amount_minor,
                    "currency": input.total.currency,
                });
                vec![Event::new("INVOICE_CREATED", &created)]
            }
            Moment::Undone { input, output, undone } if undone.applied => {
                let voided = json!({
                    "business_key": input.business_key,
                    "invoice_id": output.map(|invoiced| &invoiced.invoice_id),
                    "invoice_number": output.map(|invoiced| &invoiced.invoice_number),
                    "void_id": undone.reference,
                });
                vec![Event::new("INVOICE_VOIDED", &voided)]
            }
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

impl Undo for IssueInvoice {
    async fn undo(
        &self,
        call: &Call,
        _: &InvoiceRequest,
        _: Option<&Invoiced>,
    ) -> Result<Undone, StepError> {
        self.invoices.void(call.key(), call.forward_key()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fulfilment::testing::told;
    use crate::order::sample;
    use crate::ports::Ports;

    #[test]
    fn an_invoice_is_told_when_it_is_issued_and_when_it_is_voided() {
        let step = IssueInvoice::new(Ports::instant().invoices);
        let input = &InvoiceRequest::of(&sample());
        let output = &Invoiced { invoice_id: "in_1".into(), invoice_number: "2026-7".into() };
        assert_eq!(
            told(&step, Moment::Done { input, output }),
            [(
                "INVOICE_CREATED",
                json!({
                    "business_key": "acme/5940139491234",
                    "invoice_id": "in_1",
                    "invoice_number": "2026-7",
                    "amount_minor": 7490,
                    "currency": "MYR",
                })
            )]
        );
        let (voided, nothing) = (&Undone::by("vo_1"), &Undone::nothing());
        assert_eq!(
            told(&step, Moment::Undone { input, output: Some(output), undone: voided }),
            [(
                "INVOICE_VOIDED",
                json!({
                    "business_key": "acme/5940139491234",
                    "invoice_id": "in_1",
                    "invoice_number": "2026-7",
                    "void_id": "vo_1",
                })
            )]
        );
        let unknown = told(&step, Moment::Undone { input, output: None, undone: voided });
        assert_eq!(unknown[0].1["invoice_id"], json!(null));
        assert_eq!(told(&step, Moment::Undone { input, output: None, undone: nothing }), []);
    }
}
