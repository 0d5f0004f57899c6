//! Closes a settlement whose payment has arrived, and fails for good where it has not.

use amends::{Call, Declaration, Step, StepError};

#[derive(Clone)]
pub(super) struct Settle;

impl Step for Settle {
    const NAME: &'static str = "settle";
    type Input = Option<String>;
    type Output = String;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent().nothing_to_undo()
    }

    async fn run(&self, _: &Call, reference: &Option<String>) -> Result<String, StepError> {
        let unpaid = || StepError::fail("PAYMENT_NOT_SETTLED", "no payment has arrived in time");
        reference.clone().ok_or_else(unpaid)
    }
}
