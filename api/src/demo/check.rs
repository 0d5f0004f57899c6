//! Whether what happened is what should have happened. Pure, but for the histories.

use std::collections::BTreeSet;

use amends::{Address, Money, Status, verify};
use anyhow::Context;

use super::case::Case;
use super::client::{Arrived, Entry};
use super::shop::Order;
use crate::orders::story::Story;
use crate::timeline::amount;

/// One thing that was checked: how it is, or what is wrong with it.
pub(super) type Finding = Result<String, String>;

/// Something that can be done for an order, and undone: in the books, and in words.
struct Undoable {
    done: (&'static str, &'static str),
    undone: (&'static str, &'static str),
}

const UNDOABLE: [Undoable; 3] = [
    Undoable { done: ("reserve", "reserved"), undone: ("release", "released") },
    Undoable { done: ("issue", "issued"), undone: ("void", "voided") },
    Undoable { done: ("charge", "charged"), undone: ("refund", "refunded") },
];
/// What stays done.
const FINAL: [(&str, &str); 2] = [("ship", "parcel shipped"), ("send", "customer told")];

/// Checks how an order has ended, and that the server's account and the providers' books say the same.
pub(super) fn order(order: &Order, case: Case, story: &Story, books: &[Entry]) -> Finding {
    let (number, status) = (&order.number, story.status);
    if status != case.status() {
        return Err(format!("{number} should be {}, and is {status}", case.status()));
    }
    let operations: Vec<_> = books.iter().map(|entry| entry.operation.as_str()).collect();
    if operations != case.effects() {
        let (wanted, found) = (case.effects().join(", "), operations.join(", "));
        return Err(format!("{number} should have in the books: {wanted}; there is: {found}"));
    }
    let is_wrong = |entry: &Entry| entry.money().is_some() && entry.money() != order.total();
    if books.iter().any(is_wrong) {
        return Err(format!(
            "{number} has a wrong amount in the books: {}",
            in_words(books, story)
        ));
    }
    let moved = (story.captured_minor, story.refunded_minor);
    let wanted = case.money(story.total_minor);
    if moved != wanted {
        return Err(format!("{number} should have moved {wanted:?}, and has moved {moved:?}"));
    }
    Ok(format!("{number} {}: {}", ending(status), in_words(books, story)))
}

/// Checks an order that an earlier run left under way: it has all its effects, or none.
pub(super) fn left_behind(number: &str, story: &Story, books: &[Entry]) -> Finding {
    let status = story.status;
    let count = |name: &str| books.iter().filter(|entry| entry.operation == name).count();
    let counts = || UNDOABLE.iter().map(|it| (count(it.done.0), count(it.undone.0)));
    let finals = |wanted| FINAL.iter().all(|(name, _)| count(name) == wanted);
    let is_right = match status {
        Status::Completed => {
            let charged = usize::from(!is_paid_at_shop(story, books));
            let wanted = [(1, 0), (1, 0), (charged, 0)];
            counts().eq(wanted) && finals(1) && story.captured_minor == story.total_minor
        }
        Status::Compensated | Status::Cancelled => {
            counts().all(|counts| counts == (0, 0) || counts == (1, 1)) && finals(0)
        }
        // Only a person knows what should become of it.
        Status::Stuck => return Ok(format!("{number} waits for a person to decide")),
        Status::Pending
        | Status::Running
        | Status::Waiting
        | Status::Compensating
        | Status::Terminated => false,
    };
    let text = format!("{number} {}: {}", ending(status), in_words(books, story));
    if is_right { Ok(text) } else { Err(text) }
}

/// Checks that the events of an order have arrived, in order, with none missing; counts them.
pub(super) fn events(order: &Order, case: Case, arrived: &[Arrived]) -> Result<usize, String> {
    let mut seen = BTreeSet::new();
    // An event may arrive more than once, and says by its id that it is the same.
    let kinds: Vec<_> = arrived
        .iter()
        .filter(|event| seen.insert(&event.id))
        .filter_map(|event| event.kind.rsplit('.').next())
        .map(str::to_ascii_uppercase)
        .collect();
    if kinds == case.events() {
        return Ok(kinds.len());
    }
    let (wanted, found) = (case.events().join(", "), kinds.join(", "));
    Err(format!("of {} should have been told: {wanted}; was told: {found}", order.number))
}

/// What the checks of events come to.
pub(super) fn all_events(checked: Vec<Result<usize, String>>) -> Finding {
    let counts: Vec<_> = checked.into_iter().collect::<Result<_, _>>()?;
    let count: usize = counts.into_iter().sum();
    Ok(format!("{count} events told the shop's other systems, in order, with none missing"))
}

/// Checks every history in the database.
pub(super) async fn histories(database: Address) -> anyhow::Result<Finding> {
    let report = verify::verify(database, |_| ()).await.context("histories cannot be checked")?;
    let verify::Report { instances, records, broken } = report;
    Ok(match broken.len() {
        0 => Ok(format!(
            "the database holds {instances} orders; all {records} records of what happened to \
             them are as they were written"
        )),
        broken => Err(format!(
            "the database holds {instances} orders, and the records of {broken} were changed \
             later; `amends verify` names them"
        )),
    })
}

fn ending(status: Status) -> &'static str {
    match status {
        Status::Completed => "completed",
        Status::Compensated => "undone",
        Status::Cancelled => "cancelled and undone",
        Status::Terminated => "stopped by force",
        Status::Pending
        | Status::Running
        | Status::Waiting
        | Status::Compensating
        | Status::Stuck => "not ended",
    }
}

/// Whether the money of an order was taken where no provider of ours has a book of it.
fn is_paid_at_shop(story: &Story, books: &[Entry]) -> bool {
    story.captured_minor > 0 && !books.iter().any(|entry| entry.operation == "charge")
}

/// What stands in the books of an order, each thing with what has undone it, and what was paid at the
/// shop.
fn in_words(books: &[Entry], story: &Story) -> String {
    let find = |name: &str| books.iter().find(|entry| entry.operation == name);
    let money = |amount_minor| amount(Money { amount_minor, currency: story.currency });
    let undoable = UNDOABLE.iter().map(|Undoable { done, undone }| {
        if done.0 == "charge" && is_paid_at_shop(story, books) {
            let paid = format!("{} paid at the shop", money(story.captured_minor));
            return match story.refunded_minor {
                0 => paid,
                refunded => format!("{paid} and {} given back there", money(refunded)),
            };
        }
        let Some(entry) = find(done.0) else {
            return format!("no {} {}", self::thing(done.0), done.1);
        };
        let thing = entry.money().filter(|_| done.0 == "charge").map(amount);
        let thing = thing.unwrap_or_else(|| self::thing(done.0).to_owned());
        match find(undone.0) {
            Some(_) => format!("{thing} {} and {}", done.1, undone.1),
            None => format!("{thing} {}", done.1),
        }
    });
    let finals = FINAL.iter().filter(|(name, _)| find(name).is_some()).map(|it| it.1.to_owned());
    undoable.chain(finals).collect::<Vec<_>>().join(", ")
}

fn thing(operation: &str) -> &'static str {
    match operation {
        "reserve" => "stock",
        "issue" => "invoice",
        _ => "money",
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;
    use uuid::Uuid;

    use super::super::shop::Orders;
    use super::*;

    fn entry(operation: &str) -> Entry {
        let money = ["issue", "charge", "refund"].contains(&operation);
        serde_json::from_value(json!({
            "operation": operation,
            "amount_minor": money.then_some(7490), "currency": money.then_some("MYR"),
        }))
        .expect("an entry")
    }

    fn books(operations: &[&str]) -> Vec<Entry> {
        operations.iter().copied().map(entry).collect()
    }

    fn story(status: Status, (captured_minor, refunded_minor): (i64, i64)) -> Story {
        Story {
            instance_id: Uuid::nil(),
            shop: "demo-shop.example".to_owned(),
            order_id: "1".to_owned(),
            number: "#1".to_owned(),
            status,
            held: false,
            summary: String::new(),
            currency: "MYR".parse().expect("a currency"),
            total_minor: 7490,
            captured_minor,
            refunded_minor,
            tracking_number: None,
            failure: None,
            happened: Vec::new(),
            accepted_at: DateTime::UNIX_EPOCH,
            ended_at: None,
        }
    }

    /// How a case has to be told.
    fn told(case: Case) -> Story {
        story(case.status(), case.money(7490))
    }

    fn orders() -> Orders {
        Orders::new(DateTime::UNIX_EPOCH, Some("#1041".to_owned()))
    }

    #[test]
    fn each_case_is_right_only_with_its_own_ending_and_books() {
        for (case, sent) in orders().cases() {
            let ending = |case: Case| (case.status(), case.effects(), case.money(7490));
            for other in Case::ALL {
                let found = order(sent, case, &told(other), &books(other.effects()));
                assert_eq!(found.is_ok(), ending(case) == ending(other), "{found:?}");
            }
            let twice = [case.effects(), &["charge"]].concat();
            assert!(order(sent, case, &told(case), &books(&twice)).is_err());
        }
    }

    #[test]
    fn the_books_are_told_in_a_sentence() {
        let orders = orders();
        let found: Vec<_> = orders
            .cases()
            .map(|(case, sent)| order(sent, case, &told(case), &books(case.effects())))
            .map(|found| found.expect("it is right"))
            .collect();
        assert_eq!(
            found,
            [
                "#1042 completed: stock reserved, invoice issued, 74.90 MYR charged, parcel \
                 shipped, customer told",
                "#1043 undone: stock reserved and released, invoice issued and voided, 74.90 MYR \
                 charged and refunded",
                "#1044 undone: stock reserved and released, invoice issued and voided, no money \
                 charged",
                "#1045 completed: stock reserved, invoice issued, 74.90 MYR paid at the shop, parcel \
                 shipped, customer told",
                "#1046 completed: stock reserved, invoice issued, 74.90 MYR charged, parcel \
                 shipped, customer told",
                "#1047 completed: stock reserved, invoice issued, 74.90 MYR paid at the shop and \
                 20.00 MYR given back there, parcel shipped, customer told",
                "#1048 cancelled and undone: stock reserved and released, invoice issued and voided, \
                 74.90 MYR charged and refunded",
            ]
        );
    }

    #[test]
    fn a_wrong_amount_in_the_books_is_found() {
        let orders = orders();
        let (case, sent) = orders.cases().next().expect("a case");
        let mut books = books(case.effects());
        books[2] = serde_json::from_value(
            json!({"operation": "charge", "amount_minor": 7491, "currency": "MYR"}),
        )
        .expect("an entry");
        assert!(order(sent, case, &told(case), &books).is_err());
    }

    #[test]
    fn what_was_left_behind_has_all_its_effects_or_none() {
        let paid = 7490;
        for (status, captured, operations, is_right) in [
            (Status::Completed, paid, &["reserve", "issue", "charge", "ship", "send"][..], true),
            (Status::Completed, paid, &["reserve", "issue", "ship", "send"], true),
            (Status::Completed, 0, &["reserve", "issue", "ship", "send"], false),
            (
                Status::Completed,
                paid,
                &["reserve", "issue", "charge", "charge", "ship", "send"],
                false,
            ),
            (Status::Cancelled, 0, &["reserve", "release"], true),
            (Status::Cancelled, 0, &["reserve"], false),
            (Status::Compensated, 0, &[], true),
            (Status::Compensated, 0, &["reserve", "release", "ship"], false),
            (Status::Running, 0, &["reserve"], false),
        ] {
            let found = left_behind("#1", &story(status, (captured, 0)), &books(operations));
            assert_eq!(found.is_ok(), is_right, "{found:?}");
        }
    }

    #[test]
    fn events_have_to_be_all_there_and_in_order_but_may_come_twice() {
        let orders = orders();
        let (case, sent) = orders.cases().next().expect("a case");
        let arrived = |kinds: &[&str]| -> Vec<Arrived> {
            let arrived = |kind: &&str| {
                let kind = format!("com.amends.fulfilment.{}", kind.to_lowercase());
                serde_json::from_value(json!({"id": kind, "type": kind})).expect("an event")
            };
            kinds.iter().map(arrived).collect()
        };
        let right = case.events();
        assert_eq!(events(sent, case, &arrived(right)), Ok(8));
        assert_eq!(events(sent, case, &arrived(&[&right[..2], right].concat())), Ok(8));
        assert!(events(sent, case, &arrived(&right[1..])).is_err());
        assert!(events(sent, case, &arrived(&[&right[1..], &right[..1]].concat())).is_err());
    }
}
