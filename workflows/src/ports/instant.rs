//! Providers that grant everything at once, without I/O and without memory.
//!
//! References are made of the key, so a repeated call gets the same answer. They cannot tell what
//! was never asked for, so an undo always finds something to undo.

use amends::{Money, StepError, Undone};
use futures::FutureExt;
use futures::future::ready;

use super::carrier::Shipment;
use super::invoices::Invoice;
use super::mail::Message;
use super::payments::{Charge, Refund};
use super::shop::Capture;
use super::stock::Reservation;
use super::{Answer, Carrier, Invoices, Mail, Payments, Shop, Stock};
use crate::order::{Item, Recipient};

pub(super) struct Instant;

fn granted<'a, T: Send + 'a>(answer: T) -> Answer<'a, T> {
    ready(Ok::<T, StepError>(answer)).boxed()
}

impl Stock for Instant {
    fn reserve<'a>(&'a self, key: &'a str, _: &'a str, _: &'a [Item]) -> Answer<'a, Reservation> {
        granted(Reservation { reservation_id: format!("reservation-{key}") })
    }

    fn release<'a>(&'a self, key: &'a str, _: &'a str) -> Answer<'a, Undone> {
        granted(Undone::by(format!("release-{key}")))
    }
}

impl Invoices for Instant {
    fn issue<'a>(&'a self, key: &'a str, _: &'a str, _: Money) -> Answer<'a, Invoice> {
        granted(Invoice { invoice_id: format!("invoice-{key}"), number: format!("INV-{key}") })
    }

    fn void<'a>(&'a self, key: &'a str, _: &'a str) -> Answer<'a, Undone> {
        granted(Undone::by(format!("void-{key}")))
    }
}

impl Payments for Instant {
    fn charge<'a>(&'a self, key: &'a str, _: &'a str, _: Money) -> Answer<'a, Charge> {
        granted(Charge { charge_id: format!("charge-{key}") })
    }

    fn refund<'a>(&'a self, key: &'a str, _: &'a str, amount: Money) -> Answer<'a, Option<Refund>> {
        granted(Some(Refund { refund_id: format!("refund-{key}"), amount }))
    }
}

impl Carrier for Instant {
    fn ship<'a>(
        &'a self,
        key: &'a str,
        _: &'a str,
        _: &'a [Item],
        _: &'a Recipient,
    ) -> Answer<'a, Shipment> {
        granted(Shipment {
            shipment_id: format!("shipment-{key}"),
            tracking_number: format!("TRACK-{key}"),
        })
    }
}

impl Mail for Instant {
    fn send<'a>(&'a self, key: &'a str, _: &'a str, _: &'a str, _: &'a str) -> Answer<'a, Message> {
        granted(Message { message_id: format!("message-{key}") })
    }
}

impl Shop for Instant {
    fn capture<'a>(
        &'a self,
        key: &'a str,
        _: &'a str,
        _: &'a str,
        _: Money,
    ) -> Answer<'a, Capture> {
        granted(Capture { capture_id: format!("capture-{key}") })
    }

    fn refund_capture<'a>(
        &'a self,
        key: &'a str,
        capture_key: &'a str,
        amount: Money,
    ) -> Answer<'a, Option<Refund>> {
        self.refund(key, capture_key, amount)
    }

    fn refund_payment<'a>(
        &'a self,
        key: &'a str,
        _: &'a str,
        _: &'a str,
        amount: Money,
    ) -> Answer<'a, Refund> {
        granted(Refund { refund_id: format!("refund-{key}"), amount })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Ports;

    #[test]
    fn the_same_key_gets_the_same_answer_and_another_key_another() {
        let payments = Ports::instant().payments;
        let total = crate::order::sample().total();
        let charge = |key| payments.charge(key, "acme/1", total).now_or_never().unwrap().unwrap();
        assert_eq!(charge("one"), charge("one"));
        assert_ne!(charge("one"), charge("two"));
    }
}
