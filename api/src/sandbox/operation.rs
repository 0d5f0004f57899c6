//! The words of the protocol: which stand-ins there are, and what each can be asked to do.

use serde::{Deserialize, Serialize};

/// A stand-in for a company the shop depends on. Each has idempotency keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Provider {
    /// The warehouse.
    Stock,
    /// The book-keeper.
    Invoice,
    /// The card processor.
    Payment,
    /// The parcel service.
    Carrier,
    /// The mail service.
    Mail,
    /// The platform on which orders are placed and paid.
    Shop,
    /// The receiver of published events.
    Events,
}

/// Something a provider can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    /// Set goods aside.
    Reserve,
    /// Undo a reservation.
    Release,
    /// Write an invoice.
    Issue,
    /// Undo an invoice.
    Void,
    /// Take money.
    Charge,
    /// Undo a charge.
    Refund,
    /// Send a parcel.
    Ship,
    /// Send a message.
    Send,
    /// Take what is authorised at the shop.
    Capture,
    /// Undo a capture.
    RefundCapture,
    /// Give back what was paid at the shop.
    RefundPayment,
    /// Receive an event.
    Deliver,
}

impl Operation {
    /// The one provider that offers this operation.
    pub(super) fn provider(self) -> Provider {
        match self {
            Operation::Reserve | Operation::Release => Provider::Stock,
            Operation::Issue | Operation::Void => Provider::Invoice,
            Operation::Charge | Operation::Refund => Provider::Payment,
            Operation::Ship => Provider::Carrier,
            Operation::Send => Provider::Mail,
            Operation::Capture | Operation::RefundCapture | Operation::RefundPayment => {
                Provider::Shop
            }
            Operation::Deliver => Provider::Events,
        }
    }
}
