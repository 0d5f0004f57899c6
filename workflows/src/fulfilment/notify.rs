//! Tells the customer that the parcel is on its way. A message sent stays sent.

use std::sync::Arc;

use amends::{Call, Declaration, RetryPolicy, Step, StepError};
use serde::{Deserialize, Serialize};

use super::ship::ShipRequest;
use super::{KEY_WINDOW, MAIL, STEP_TIMEOUT};
use crate::order::Order;
use crate::ports::Mail;

/// The step that writes to the customer.
#[derive(Clone)]
pub struct Notify {
    mail: Arc<dyn Mail>,
}

/// What is to be sent, and where to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoticeRequest {
    /// The order's business key.
    pub business_key: String,
    /// The customer's address.
    pub to: String,
    /// The message, as the mail provider names it.
    pub template: String,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// The mail provider's reference.
    pub message_id: String,
}

impl Notify {
    /// The step, with the mail provider it asks.
    #[must_use]
    pub fn new(mail: Arc<dyn Mail>) -> Self {
        Self { mail }
    }
}

impl NoticeRequest {
    /// That the parcel is on its way, or else that the order is ready. None: nobody can be written to.
    #[must_use]
    pub fn of(order: &Order) -> Option<Self> {
        let to = order.customer.email.clone()?;
        let template =
            if ShipRequest::of(order).is_some() { "order_shipped" } else { "order_ready" };
        Some(Self { business_key: order.business_key(), to, template: template.to_owned() })
    }
}

impl Step for Notify {
    const NAME: &'static str = "notify";
    type Input = NoticeRequest;
    type Output = Notified;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent_within(KEY_WINDOW)
            .nothing_to_undo()
            .retry(RetryPolicy::persistent())
            .timeout(STEP_TIMEOUT)
            .through(MAIL)
    }

    async fn run(&self, call: &Call, input: &NoticeRequest) -> Result<Notified, StepError> {
        let message =
            self.mail.send(call.key(), &input.business_key, &input.to, &input.template).await?;
        Ok(Notified { message_id: message.message_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fulfilment::testing::told;
    use crate::order::sample;
    use crate::ports::Ports;
    use amends::Moment;

    #[test]
    fn the_customer_hears_of_it_and_nobody_else() {
        let step = Notify::new(Ports::instant().mail);
        let input = &NoticeRequest::of(&sample()).unwrap();
        assert_eq!((&*input.to, &*input.template), ("jane@example.com", "order_shipped"));
        let picked_up = NoticeRequest::of(&Order { recipient: None, ..sample() }).unwrap();
        assert_eq!(picked_up.template, "order_ready");
        let mut nameless = sample();
        nameless.customer.email = None;
        assert_eq!(NoticeRequest::of(&nameless), None);
        let output = &Notified { message_id: "ms_1".into() };
        assert_eq!(told(&step, Moment::Done { input, output }), []);
    }
}
