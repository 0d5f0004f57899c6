//! The orders of the demo, and what should come of each: in the database, in the providers' books,
//! and among the events.

use amends::Status;

/// What the shop gives back of an order of which it gives back a part.
pub(super) const REFUNDED: &str = "20.00";
const REFUNDED_MINOR: i64 = 2_000;

/// What happens to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    /// Everything goes well.
    Good,
    /// The carrier refuses the parcel.
    Refused,
    /// The customer's card is declined.
    Declined,
    /// The customer has paid at the shop.
    Paid,
    /// The shop does not say which article was bought; somebody finds out.
    Mended,
    /// The customer has paid at the shop, and it gives a part back while the carrier is down.
    PartlyRefunded,
    /// The shop cancels while the carrier is down.
    Cancelled,
}

/// A provider that fails, and how: in the words of the sandbox.
pub(super) struct Fault {
    pub(super) provider: &'static str,
    pub(super) operation: &'static str,
    pub(super) fault: &'static str,
    /// How often; none: as often as it is asked.
    pub(super) times: Option<u32>,
}

impl Fault {
    const fn new(provider: &'static str, operation: &'static str, fault: &'static str) -> Self {
        Self { provider, operation, fault, times: None }
    }
}

impl Case {
    pub(super) const ALL: [Self; 7] = [
        Self::Good,
        Self::Refused,
        Self::Declined,
        Self::Paid,
        Self::Mended,
        Self::PartlyRefunded,
        Self::Cancelled,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Good => "A good order",
            Self::Refused => "An order whose parcel the carrier will not take",
            Self::Declined => "An order whose payment is declined",
            Self::Paid => "An order that was paid at the shop",
            Self::Mended => "An order that does not say what was bought, until somebody finds out",
            Self::PartlyRefunded => {
                "An order of which the shop gives a part back, while the carrier is down"
            }
            Self::Cancelled => "An order that the shop cancels, while the carrier is down",
        }
    }

    pub(super) fn fault(self) -> Option<Fault> {
        match self {
            Self::Good | Self::Paid | Self::Mended => None,
            Self::Refused => Some(Fault::new("carrier", "ship", "refuse")),
            Self::Declined => Some(Fault::new("payment", "charge", "decline")),
            Self::PartlyRefunded => {
                Some(Fault { times: Some(3), ..Fault::new("carrier", "ship", "down") })
            }
            Self::Cancelled => Some(Fault::new("carrier", "ship", "down")),
        }
    }

    pub(super) fn status(self) -> Status {
        match self {
            Self::Good | Self::Paid | Self::Mended | Self::PartlyRefunded => Status::Completed,
            Self::Refused | Self::Declined => Status::Compensated,
            Self::Cancelled => Status::Cancelled,
        }
    }

    /// Whether the customer has paid at the shop.
    pub(super) fn is_paid_at_shop(self) -> bool {
        matches!(self, Self::Paid | Self::PartlyRefunded)
    }

    /// What the customer has paid, and what they have got back, by the server's own account.
    pub(super) fn money(self, total_minor: i64) -> (i64, i64) {
        match self {
            Self::Good | Self::Paid | Self::Mended => (total_minor, 0),
            Self::Refused | Self::Cancelled => (total_minor, total_minor),
            Self::Declined => (0, 0),
            Self::PartlyRefunded => (total_minor, REFUNDED_MINOR),
        }
    }

    /// What the providers should have done, in order, each exactly once.
    pub(super) fn effects(self) -> &'static [&'static str] {
        match self {
            Self::Good | Self::Mended => &["reserve", "issue", "charge", "ship", "send"],
            Self::Paid | Self::PartlyRefunded => &["reserve", "issue", "ship", "send"],
            Self::Refused | Self::Cancelled => {
                &["reserve", "issue", "charge", "refund", "void", "release"]
            }
            Self::Declined => &["reserve", "issue", "void", "release"],
        }
    }

    /// What should have been published, in order.
    pub(super) fn events(self) -> &'static [&'static str] {
        match self {
            Self::Good | Self::Paid | Self::PartlyRefunded => &[
                "ORDER_CREATED",
                "INVOICE_CREATED",
                "PAYMENT_CONFIRMED",
                "ORDER_PROCESSED",
                "SHIPMENT_PREPARED",
                "SHIPMENT_PROCESSED",
                "SHIPPED",
                "ORDER_FULFILLED",
            ],
            Self::Mended => &[
                "ORDER_INCOMPLETE",
                "ORDER_CREATED",
                "INVOICE_CREATED",
                "PAYMENT_CONFIRMED",
                "ORDER_PROCESSED",
                "SHIPMENT_PREPARED",
                "SHIPMENT_PROCESSED",
                "SHIPPED",
                "ORDER_FULFILLED",
            ],
            Self::Cancelled => &[
                "ORDER_CREATED",
                "INVOICE_CREATED",
                "PAYMENT_CONFIRMED",
                "ORDER_PROCESSED",
                "SHIPMENT_PREPARED",
                "SHIPMENT_PROCESSED",
                "PAYMENT_REFUNDED",
                "INVOICE_VOIDED",
                "STOCK_RELEASED",
                "ORDER_CANCELLED",
            ],
            Self::Refused => &[
                "ORDER_CREATED",
                "INVOICE_CREATED",
                "PAYMENT_CONFIRMED",
                "ORDER_PROCESSED",
                "SHIPMENT_PREPARED",
                "SHIPMENT_PROCESSED",
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
