//! The providers' protocol: paths, bodies, answers, and what their refusals mean.
//!
//! On the wire, `order_id` is the business key.

use amends::{Money, StepError, Undone};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::Http;
use super::verdict::Refusal;
use crate::failure::{
    OUT_OF_STOCK, PAYMENT_DECLINED, PROVIDER_ERROR, PROVIDER_REFUSED, SHIPMENT_ERROR,
};
use crate::order::{Item, Recipient};
use crate::ports::carrier::Shipment;
use crate::ports::invoices::Invoice;
use crate::ports::mail::Message;
use crate::ports::payments::Charge;
use crate::ports::stock::Reservation;
use crate::ports::{Answer, Carrier, Invoices, Mail, Payments, Stock};

#[derive(Deserialize)]
struct Reserved {
    reservation_id: String,
}

#[derive(Deserialize)]
struct Released {
    #[serde(deserialize_with = "nullable")]
    release_id: Option<String>,
}

impl Stock for Http {
    fn reserve<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        items: &'a [Item],
    ) -> Answer<'a, Reservation> {
        Box::pin(async move {
            let body = json!({ "order_id": business_key, "lines": items });
            let Reserved { reservation_id } =
                self.post("/stock/reservations", key, &body, stock_code).await?;
            Ok(Reservation { reservation_id })
        })
    }

    fn release<'a>(&'a self, key: &'a str, reservation_key: &'a str) -> Answer<'a, Undone> {
        Box::pin(async move {
            let body = json!({ "reservation_key": reservation_key });
            let answer: Released = self.post("/stock/releases", key, &body, plain_code).await?;
            Ok(undone(answer.release_id))
        })
    }
}

#[derive(Deserialize)]
struct Issued {
    invoice_id: String,
    number: String,
}

#[derive(Deserialize)]
struct Voided {
    #[serde(deserialize_with = "nullable")]
    void_id: Option<String>,
}

impl Invoices for Http {
    fn issue<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        total: Money,
    ) -> Answer<'a, Invoice> {
        Box::pin(async move {
            let body = amount_body(business_key, total);
            let Issued { invoice_id, number } =
                self.post("/invoices", key, &body, plain_code).await?;
            Ok(Invoice { invoice_id, number })
        })
    }

    fn void<'a>(&'a self, key: &'a str, invoice_key: &'a str) -> Answer<'a, Undone> {
        Box::pin(async move {
            let body = json!({ "invoice_key": invoice_key });
            let answer: Voided = self.post("/invoices/voids", key, &body, plain_code).await?;
            Ok(undone(answer.void_id))
        })
    }
}

#[derive(Deserialize)]
struct Charged {
    charge_id: String,
}

#[derive(Deserialize)]
struct Refunded {
    #[serde(deserialize_with = "nullable")]
    refund_id: Option<String>,
    amount_minor: Option<i64>,
    currency: Option<String>,
}

impl Payments for Http {
    fn charge<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        total: Money,
    ) -> Answer<'a, Charge> {
        Box::pin(async move {
            let body = amount_body(business_key, total);
            let Charged { charge_id } =
                self.post("/payments/charges", key, &body, payment_code).await?;
            Ok(Charge { charge_id })
        })
    }

    fn refund<'a>(&'a self, key: &'a str, charge_key: &'a str, total: Money) -> Answer<'a, Undone> {
        Box::pin(async move {
            let body = json!({ "charge_key": charge_key });
            let answer: Refunded = self.post("/payments/refunds", key, &body, plain_code).await?;
            refunded(answer, total)
        })
    }
}

#[derive(Deserialize)]
struct Shipped {
    shipment_id: String,
    tracking_number: String,
}

impl Carrier for Http {
    fn ship<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        items: &'a [Item],
        recipient: &'a Recipient,
    ) -> Answer<'a, Shipment> {
        Box::pin(async move {
            let body = json!({ "order_id": business_key, "lines": items, "recipient": recipient });
            let Shipped { shipment_id, tracking_number } =
                self.post("/carrier/shipments", key, &body, carrier_code).await?;
            Ok(Shipment { shipment_id, tracking_number })
        })
    }
}

#[derive(Deserialize)]
struct Sent {
    message_id: String,
}

impl Mail for Http {
    fn send<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        to: &'a str,
        template: &'a str,
    ) -> Answer<'a, Message> {
        Box::pin(async move {
            let body = json!({ "order_id": business_key, "to": to, "template": template });
            let Sent { message_id } = self.post("/mail/messages", key, &body, plain_code).await?;
            Ok(Message { message_id })
        })
    }
}

fn amount_body(business_key: &str, total: Money) -> serde_json::Value {
    json!({
        "order_id": business_key,
        "amount_minor": total.amount_minor,
        "currency": total.currency,
    })
}

fn stock_code(refusal: &Refusal) -> &'static str {
    match refusal.code.as_deref() {
        Some("out_of_stock") => OUT_OF_STOCK,
        _ => PROVIDER_REFUSED,
    }
}

fn payment_code(refusal: &Refusal) -> &'static str {
    match (refusal.status, refusal.code.as_deref()) {
        (402, _) | (_, Some("card_declined")) => PAYMENT_DECLINED,
        _ => PROVIDER_REFUSED,
    }
}

fn carrier_code(_: &Refusal) -> &'static str {
    SHIPMENT_ERROR
}

fn plain_code(_: &Refusal) -> &'static str {
    PROVIDER_REFUSED
}

/// `null` means that there was nothing to undo. A missing field does not: it is no answer at all.
fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

fn undone(reference: Option<String>) -> Undone {
    reference.map_or_else(Undone::nothing, Undone::by)
}

fn refunded(answer: Refunded, total: Money) -> Result<Undone, StepError> {
    let whole = answer.amount_minor == Some(total.amount_minor)
        && answer.currency.as_deref() == Some(total.currency.as_str());
    if answer.refund_id.is_some() && !whole {
        return Err(StepError::fail(
            PROVIDER_ERROR,
            format!("/payments/refunds: gave back another amount than {total}"),
        ));
    }
    Ok(undone(answer.refund_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::sample;

    #[test]
    fn refusals_get_our_codes() {
        type CodeOf = fn(&Refusal) -> &'static str;
        let table: [(CodeOf, u16, Option<&str>, &str); 11] = [
            (stock_code, 422, Some("out_of_stock"), OUT_OF_STOCK),
            (stock_code, 422, Some("unknown_sku"), PROVIDER_REFUSED),
            (stock_code, 400, None, PROVIDER_REFUSED),
            (payment_code, 402, Some("card_declined"), PAYMENT_DECLINED),
            (payment_code, 402, Some("insufficient_funds"), PAYMENT_DECLINED),
            (payment_code, 402, None, PAYMENT_DECLINED),
            (payment_code, 422, Some("bad_currency"), PROVIDER_REFUSED),
            (payment_code, 409, Some("already_undone"), PROVIDER_REFUSED),
            (carrier_code, 422, Some("shipment_refused"), SHIPMENT_ERROR),
            (carrier_code, 400, None, SHIPMENT_ERROR),
            (plain_code, 422, Some("out_of_stock"), PROVIDER_REFUSED),
        ];
        for (code_of, status, code, expected) in table {
            let refusal = Refusal { status, code: code.map(str::to_owned) };
            assert_eq!(code_of(&refusal), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn null_is_nothing_to_undo_and_a_missing_field_is_no_answer() {
        let read = |json| serde_json::from_str::<Released>(json).map(|answer| answer.release_id);
        assert_eq!(read(r#"{"release_id":null}"#).unwrap(), None);
        assert_eq!(read(r#"{"release_id":"r1"}"#).unwrap(), Some("r1".to_owned()));
        assert!(read("{}").is_err());
        assert!(serde_json::from_str::<Voided>("{}").is_err());
        assert!(serde_json::from_str::<Refunded>("{}").is_err());
    }

    #[test]
    fn a_refund_counts_only_if_it_is_the_whole_charge() {
        let total = sample().total();
        let refund = |json: &str| refunded(serde_json::from_str(json).unwrap(), total);
        let whole = r#"{"refund_id":"re_1","amount_minor":7490,"currency":"MYR"}"#;
        assert_eq!(refund(whole), Ok(Undone::by("re_1")));
        let nothing = r#"{"refund_id":null,"amount_minor":null,"currency":null}"#;
        assert_eq!(refund(nothing), Ok(Undone::nothing()));
        for other in [
            r#"{"refund_id":"re_1","amount_minor":7489,"currency":"MYR"}"#,
            r#"{"refund_id":"re_1","amount_minor":7490,"currency":"SGD"}"#,
            r#"{"refund_id":"re_1","amount_minor":null,"currency":null}"#,
        ] {
            assert!(matches!(refund(other), Err(StepError::Fail(_))), "{other}");
        }
    }

    #[test]
    fn an_amount_travels_in_minor_units_under_the_business_key() {
        assert_eq!(
            amount_body("acme/1", sample().total()),
            json!({ "order_id": "acme/1", "amount_minor": 7490, "currency": "MYR" })
        );
    }
}
