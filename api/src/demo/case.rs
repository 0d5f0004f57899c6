//! The orders of the demo, and what should come of each: in the database, in the providers' books,
//! and among the events.

use amends::Status;

/// What happens to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    /// Everything goes well.
    Good,
    /// The carrier refuses the parcel.
    Refused,
    /// The customer's card is declined.
    Declined,
}

/// A provider that fails, and how: in the words of the sandbox.
pub(super) struct Fault {
    pub(super) provider: &'static str,
    pub(super) operation: &'static str,
    pub(super) fault: &'static str,
}

impl Case {
    pub(super) const ALL: [Self; 3] = [Self::Good, Self::Refused, Self::Declined];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Good => "A good order",
            Self::Refused => "An order whose parcel the carrier will not take",
            Self::Declined => "An order whose payment is declined",
        }
    }

    pub(super) fn fault(self) -> Option<Fault> {
        match self {
            Self::Good => None,
            Self::Refused => {
                Some(Fault { provider: "carrier", operation: "ship", fault: "refuse" })
            }
            Self::Declined => {
                Some(Fault { provider: "payment", operation: "charge", fault: "decline" })
            }
        }
    }

    pub(super) fn status(self) -> Status {
        match self {
            Self::Good => Status::Completed,
            Self::Refused | Self::Declined => Status::Compensated,
        }
    }

    /// What the providers should have done, in order, each exactly once.
    pub(super) fn effects(self) -> &'static [&'static str] {
        match self {
            Self::Good => &["reserve", "issue", "charge", "ship", "send"],
            Self::Refused => &["reserve", "issue", "charge", "refund", "void", "release"],
            Self::Declined => &["reserve", "issue", "void", "release"],
        }
    }

    /// What should have been published, in order.
    pub(super) fn events(self) -> &'static [&'static str] {
        match self {
            Self::Good => &[
                "ORDER_CREATED",
                "INVOICE_CREATED",
                "PAYMENT_CONFIRMED",
                "SHIPPED",
                "ORDER_FULFILLED",
            ],
            Self::Refused => &[
                "ORDER_CREATED",
                "INVOICE_CREATED",
                "PAYMENT_CONFIRMED",
                "SHIPMENT_ERROR",
                "PAYMENT_REFUNDED",
                "INVOICE_VOIDED",
                "STOCK_RELEASED",
                "ORDER_CANCELLED",
            ],
            Self::Declined => &[
                "ORDER_CREATED",
                "INVOICE_CREATED",
                "PAYMENT_FAILED",
                "INVOICE_VOIDED",
                "STOCK_RELEASED",
                "ORDER_CANCELLED",
            ],
        }
    }
}
