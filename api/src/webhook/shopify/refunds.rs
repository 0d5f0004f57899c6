//! What a shop has given back, as Shopify tells of it: beside the order, and as news of its own.

use amends_workflows::order::OrderKey;

use super::payload::time;
use crate::intake::draft::{DELIVERY_UNREADABLE, Failed};
use crate::intake::news::{Refund, Refunded};
use crate::intake::node::{Flaws, Node};

/// Reads news of a refund in `shop`.
pub(super) fn read(text: &str, shop: &str) -> Result<Refunded, Failed> {
    let flaws = Flaws::default();
    let read = Node::read(text, &flaws).map(|refund| {
        let order = refund.member("order_id").and_then(|id| id.text());
        let key = order.and_then(|id| format!("{shop}/{id}").parse::<OrderKey>().ok());
        (key, of(&refund))
    });
    let problems = flaws.into_vec();
    match read {
        Some((Some(key), refunds)) if problems.is_empty() => {
            Ok(Refunded { business_key: key.to_string(), refunds })
        }
        Some((None, _)) if problems.is_empty() => {
            Err(Failed::at(DELIVERY_UNREADABLE, "/order_id", "is needed, and missing"))
        }
        _ => Err(Failed { code: DELIVERY_UNREADABLE, problems, business_key: None }),
    }
}

/// The money that has moved with a refund: its transactions that have succeeded.
pub(super) fn of(refund: &Node<'_>) -> Vec<Refund> {
    let transactions = refund.member("transactions").map(|list| list.entries()).unwrap_or_default();
    let refund = |transaction: &Node<'_>| {
        let text = |name: &str| transaction.member(name).and_then(|it| it.text());
        let is =
            |name: &str, word: &str| text(name).is_some_and(|it| it.eq_ignore_ascii_case(word));
        let is_test = transaction.member("test").is_some_and(|test| test.is_true());
        if !is("kind", "refund") || !is("status", "success") || is_test {
            return None;
        }
        let (Some(reference), Some(amount)) = (text("id"), text("amount")) else {
            transaction.wrong("has to say which refund it is, and how much was given back");
            return None;
        };
        let at = ["processed_at", "created_at"];
        let at = at.iter().find_map(|name| time(&transaction.member(name)?));
        Some(Refund {
            reference,
            amount,
            currency: text("currency").and_then(|currency| currency.parse().ok()),
            at: at.or_else(|| time(&refund.member("created_at")?)),
        })
    };
    transactions.iter().filter_map(refund).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWS: &str = r#"{"id": 7, "order_id": 1001, "created_at": "2026-01-02T03:04:05+08:00",
        "transactions": [
            {"id": 1, "kind": "refund", "status": "success", "amount": "10.50", "currency": "EUR",
             "processed_at": "2026-01-02T03:04:04+08:00"},
            {"id": 2, "kind": "refund", "status": "success", "amount": "1.00"},
            {"id": 3, "kind": "refund", "status": "pending", "amount": "2.00"},
            {"id": 4, "kind": "void", "status": "success", "amount": "3.00"},
            {"id": 5, "kind": "refund", "status": "success", "amount": "4.00", "test": true}
        ]}"#;

    #[test]
    fn what_has_moved_is_what_has_succeeded_and_is_no_test() {
        let Refunded { business_key, refunds } =
            read(NEWS, "acme.myshopify.com").expect("readable");
        assert_eq!(business_key, "acme.myshopify.com/1001");
        let [first, second] = &refunds[..] else { panic!("two refunds, not {refunds:?}") };
        assert_eq!((&*first.reference, &*first.amount), ("1", "10.50"));
        assert_eq!(first.currency, "EUR".parse().ok());
        assert_eq!(first.at.map(|at| at.to_rfc3339()), Some("2026-01-01T19:04:04+00:00".into()));
        assert_eq!((&*second.amount, second.currency), ("1.00", None));
        assert_eq!(second.at.map(|at| at.to_rfc3339()), Some("2026-01-01T19:04:05+00:00".into()));
    }

    #[test]
    fn what_cannot_be_read_is_for_a_person() {
        for (body, pointer) in [
            ("[]", ""),
            (r#"{"id": 7}"#, "/order_id"),
            (r#"{"order_id": 7, "order_id": 8}"#, "/order_id"),
            (r#"{"order_id": 7, "transactions": 1}"#, "/transactions"),
            (
                r#"{"order_id": 7, "transactions": [
                    {"id": 1, "kind": "refund", "status": "success", "amount": "\u0000"}]}"#,
                "/transactions/0",
            ),
        ] {
            let failed = read(body, "acme.myshopify.com").expect_err("unreadable");
            assert_eq!(failed.problems[0].pointer, pointer, "{body}");
        }
    }
}
