//! Gives back the customer's money for what is not handed over: by the payment provider, or by the
//! shop's platform. What is given back stays so; an undo of the whole order gives back the rest.

use std::sync::Arc;

use amends::{
    Call, Declaration, Event, Moment, Money, Movement, MovementKind, RetryPolicy, Step, StepError,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::charge::movement;
use super::{KEY_WINDOW, PAYMENT, SHOP, STEP_TIMEOUT};
use crate::failure::PROVIDER_REFUSED;
use crate::ports::payments::Refund;
use crate::ports::{Payments, Shop};

/// The step that gives back a part of what the payment provider has taken.
#[derive(Clone)]
pub struct GiveBack {
    payments: Arc<dyn Payments>,
}

/// The step that gives back a part of what the shop's platform has.
#[derive(Clone)]
pub struct GiveBackAtShop {
    shop: Arc<dyn Shop>,
}

/// What is to be given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reduction {
    /// The order's business key.
    pub business_key: String,
    /// How much, if so much is left.
    pub amount: Money,
}

/// What the payment provider is to give back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GiveBackRequest {
    /// How much of which order.
    #[serde(flatten)]
    pub reduction: Reduction,
    /// The key under which it was charged.
    pub charge_key: String,
}

/// What the shop's platform is to give back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GiveBackAtShopRequest {
    /// How much of which order.
    #[serde(flatten)]
    pub reduction: Reduction,
    /// How the platform knows the money.
    pub from: AtShop,
}

/// How the shop's platform knows money that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtShop {
    /// By the key under which it was captured.
    Captured(String),
    /// By its own reference of a payment.
    Paid(String),
}

/// What was given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenBack {
    /// The provider's reference. None: nothing was left.
    pub refund_id: Option<String>,
    /// How much it was.
    pub amount: Money,
}

impl GiveBack {
    /// The step, with the payment provider it asks.
    #[must_use]
    pub fn new(payments: Arc<dyn Payments>) -> Self {
        Self { payments }
    }
}

impl GiveBackAtShop {
    /// The step, with the platform it asks.
    #[must_use]
    pub fn new(shop: Arc<dyn Shop>) -> Self {
        Self { shop }
    }
}

impl Step for GiveBack {
    const NAME: &'static str = "give_back";
    type Input = GiveBackRequest;
    type Output = GivenBack;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent_within(KEY_WINDOW)
            .nothing_to_undo()
            .retry(RetryPolicy::persistent())
            .timeout(STEP_TIMEOUT)
            .through(PAYMENT)
    }

    async fn run(&self, call: &Call, input: &GiveBackRequest) -> Result<GivenBack, StepError> {
        let Some(amount) = input.reduction.of_what_is_left(call) else {
            return Ok(GivenBack::nothing(&input.reduction));
        };
        GivenBack::of(self.payments.refund(call.key(), &input.charge_key, amount).await?)
    }

    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        match moment {
            Moment::Done { input, output } => output.told(&input.reduction),
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        match moment {
            Moment::Done { output, .. } => output.moved(),
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

impl Step for GiveBackAtShop {
    const NAME: &'static str = "give_back_at_shop";
    type Input = GiveBackAtShopRequest;
    type Output = GivenBack;

    fn declare(&self) -> Declaration<Self> {
        Declaration::idempotent_within(KEY_WINDOW)
            .nothing_to_undo()
            .retry(RetryPolicy::persistent())
            .timeout(STEP_TIMEOUT)
            .through(SHOP)
    }

    async fn run(
        &self,
        call: &Call,
        input: &GiveBackAtShopRequest,
    ) -> Result<GivenBack, StepError> {
        let Some(amount) = input.reduction.of_what_is_left(call) else {
            return Ok(GivenBack::nothing(&input.reduction));
        };
        let order = &input.reduction.business_key;
        GivenBack::of(match &input.from {
            AtShop::Captured(key) => self.shop.refund_capture(call.key(), key, amount).await?,
            AtShop::Paid(reference) => {
                Some(self.shop.refund_payment(call.key(), order, reference, amount).await?)
            }
        })
    }

    fn events(&self, moment: Moment<'_, Self>) -> Vec<Event> {
        match moment {
            Moment::Done { input, output } => output.told(&input.reduction),
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }

    fn money(&self, moment: Moment<'_, Self>) -> Vec<Movement> {
        match moment {
            Moment::Done { output, .. } => output.moved(),
            Moment::Failed { .. } | Moment::Undone { .. } => Vec::new(),
        }
    }
}

impl Reduction {
    /// The amount, or what is left of the payment if that is less: the shop may have given some of it
    /// back by itself. None: nothing is left.
    fn of_what_is_left(&self, call: &Call) -> Option<Money> {
        let Money { amount_minor, currency } = self.amount;
        let left_minor = call.ledger().captured_net(currency).unwrap_or_default();
        let amount_minor = amount_minor.min(left_minor);
        (amount_minor > 0).then_some(Money { amount_minor, currency })
    }
}

impl GivenBack {
    fn of(refund: Option<Refund>) -> Result<Self, StepError> {
        let unknown = || StepError::fail(PROVIDER_REFUSED, "there is no such payment");
        let Refund { refund_id, amount } = refund.ok_or_else(unknown)?;
        Ok(Self { refund_id: Some(refund_id), amount })
    }

    fn nothing(reduction: &Reduction) -> Self {
        let currency = reduction.amount.currency;
        Self { refund_id: None, amount: Money { amount_minor: 0, currency } }
    }

    fn told(&self, reduction: &Reduction) -> Vec<Event> {
        let Some(refund_id) = &self.refund_id else { return Vec::new() };
        let refunded = json!({
            "business_key": reduction.business_key,
            "refund_id": refund_id,
            "amount_minor": self.amount.amount_minor,
            "currency": self.amount.currency,
        });
        vec![Event::new("PAYMENT_REFUNDED_IN_PART", &refunded)]
    }

    fn moved(&self) -> Vec<Movement> {
        let refund = |id: &String| movement(MovementKind::Refund, self.amount, id);
        self.refund_id.iter().map(refund).collect()
    }
}
