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
use crate::ports::payments::{Charge, Refund};
use crate::ports::shop::Capture;
use crate::ports::stock::Reservation;
use crate::ports::{Answer, Carrier, Invoices, Mail, Payments, Shop, Stock};

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

    fn refund<'a>(
        &'a self,
        key: &'a str,
        charge_key: &'a str,
        amount: Money,
    ) -> Answer<'a, Option<Refund>> {
        Box::pin(async move {
            let body = json!({
                "charge_key": charge_key,
                "amount_minor": amount.amount_minor,
                "currency": amount.currency,
            });
            let answer: Refunded = self.post("/payments/refunds", key, &body, plain_code).await?;
            refunded(answer)
        })
    }
}

#[derive(Deserialize)]
struct Captured {
    capture_id: String,
}

impl Shop for Http {
    fn capture<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        reference: &'a str,
        total: Money,
    ) -> Answer<'a, Capture> {
        Box::pin(async move {
            let body = payment_body(business_key, reference, total);
            let Captured { capture_id } =
                self.post("/shop/captures", key, &body, payment_code).await?;
            Ok(Capture { capture_id })
        })
    }

    fn refund_capture<'a>(
        &'a self,
        key: &'a str,
        capture_key: &'a str,
        amount: Money,
    ) -> Answer<'a, Option<Refund>> {
        Box::pin(async move {
            let body = json!({
                "capture_key": capture_key,
                "amount_minor": amount.amount_minor,
                "currency": amount.currency,
            });
            refunded(self.post("/shop/captures/refunds", key, &body, plain_code).await?)
        })
    }

    fn refund_payment<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        reference: &'a str,
        amount: Money,
    ) -> Answer<'a, Refund> {
        Box::pin(async move {
            let body = payment_body(business_key, reference, amount);
            let refund = refunded(self.post("/shop/refunds", key, &body, plain_code).await?)?;
            refund.ok_or_else(|| StepError::unknown(PROVIDER_ERROR, "/shop/refunds: no refund"))
        })
    }
}

fn payment_body(business_key: &str, reference: &str, amount: Money) -> serde_json::Value {
    json!({
        "order_id": business_key,
        "payment_reference": reference,
        "amount_minor": amount.amount_minor,
        "currency": amount.currency,
    })
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
    match refusal.code {
        "out_of_stock" => OUT_OF_STOCK,
        _ => PROVIDER_REFUSED,
    }
}

fn payment_code(refusal: &Refusal) -> &'static str {
    match refusal.code {
        "declined" | "card_declined" => PAYMENT_DECLINED,
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

/// What was given back is what the provider says. Without an amount it has said nothing.
fn refunded(answer: Refunded) -> Result<Option<Refund>, StepError> {
    let Some(refund_id) = answer.refund_id else {
        return Ok(None);
    };
    let currency = answer.currency.and_then(|currency| currency.parse().ok());
    match (answer.amount_minor, currency) {
        (Some(amount_minor), Some(currency)) if amount_minor >= 0 => {
            Ok(Some(Refund { refund_id, amount: Money { amount_minor, currency } }))
        }
        _ => Err(StepError::unknown(
            PROVIDER_ERROR,
            "a refund: gave back, and does not say how much",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::sample;

    #[test]
    fn refusals_get_our_codes() {
        type CodeOf = fn(&Refusal) -> &'static str;
        let table: [(CodeOf, &str, &str); 9] = [
            (stock_code, "out_of_stock", OUT_OF_STOCK),
            (stock_code, "refused", PROVIDER_REFUSED),
            (stock_code, "body_invalid", PROVIDER_REFUSED),
            (payment_code, "card_declined", PAYMENT_DECLINED),
            (payment_code, "declined", PAYMENT_DECLINED),
            (payment_code, "already_undone", PROVIDER_REFUSED),
            (carrier_code, "shipment_refused", SHIPMENT_ERROR),
            (carrier_code, "body_invalid", SHIPMENT_ERROR),
            (plain_code, "out_of_stock", PROVIDER_REFUSED),
        ];
        for (code_of, code, expected) in table {
            assert_eq!(code_of(&Refusal { code }), expected, "{code}");
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
    fn a_refund_is_what_the_provider_says_that_it_gave_back() {
        let refund = |json: &str| refunded(serde_json::from_str(json).unwrap());
        let amount = |amount_minor| Money { amount_minor, currency: sample().currency };
        for given_back in [7490, 1000, 0] {
            let json = json!({
                "refund_id": "re_1", "amount_minor": given_back, "currency": sample().currency,
            });
            let expected = Refund { refund_id: "re_1".to_owned(), amount: amount(given_back) };
            assert_eq!(refund(&json.to_string()), Ok(Some(expected)));
        }
        let nothing = r#"{"refund_id":null,"amount_minor":null,"currency":null}"#;
        assert_eq!(refund(nothing), Ok(None));
        for other in [
            r#"{"refund_id":"re_1","amount_minor":-1,"currency":"MYR"}"#,
            r#"{"refund_id":"re_1","amount_minor":7490,"currency":"ringgit"}"#,
            r#"{"refund_id":"re_1","amount_minor":null,"currency":null}"#,
        ] {
            assert!(matches!(refund(other), Err(StepError::Unknown(_))), "{other}");
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
