//! An order as far as it can be read: what is there, what is missing, and what a person has said
//! instead.

use std::collections::BTreeMap;

use amends::intake_case::CaseProblem;
use amends_workflows::order::{Extra, ExtraKind, Order, Problem};
use serde_json::{Map, Value};

/// Something that keeps an order from being one is missing or wrong.
pub(crate) const ORDER_INCOMPLETE: &str = "ORDER_INCOMPLETE";
/// The body is not what the platform sends.
pub(crate) const DELIVERY_UNREADABLE: &str = "DELIVERY_UNREADABLE";
/// The parts of an order do not add up to its total.
pub(crate) const TOTAL_MISMATCH: &str = "TOTAL_MISMATCH";

/// How many problems a person is shown.
const PROBLEMS_MAX: usize = 50;

/// An order on its way to be one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Draft {
    /// What could be read, in the shape of an order.
    pub(crate) order: Value,
    /// What could not.
    pub(crate) problems: Vec<CaseProblem>,
    /// Why a person has to decide, although all can be read.
    pub(crate) doubt: Option<Doubt>,
}

/// Why a person has to decide about an order that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// As a stable code.
    pub(crate) code: &'static str,
    /// Where in the body.
    pub(crate) pointer: &'static str,
    /// In words.
    pub(crate) detail: &'static str,
}

/// What a person says of a delivery that could not be carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Correction {
    /// What stands at these places of the order instead, as JSON pointers.
    pub(crate) fields: BTreeMap<String, Value>,
    /// That it is to be carried out although there is doubt.
    pub(crate) anyway: bool,
}

/// Why a delivery cannot be carried out as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// As a stable code.
    pub(crate) code: &'static str,
    /// What is wrong, and where.
    pub(crate) problems: Vec<CaseProblem>,
    /// What it is about, if that is known.
    pub(crate) business_key: Option<String>,
}

impl Failed {
    /// With one problem only.
    pub(crate) fn at(code: &'static str, pointer: &str, detail: &str) -> Self {
        Self { code, problems: vec![super::node::problem(pointer, detail)], business_key: None }
    }

    /// The same in words, for a line.
    pub(crate) fn message(&self) -> String {
        let told = self.problems.iter().take(5).map(|it| {
            let place = it.field.as_deref().unwrap_or(&it.pointer);
            let place = if place.is_empty() { "the body" } else { place };
            format!("{place}: {}", it.detail)
        });
        let more = self.problems.len().saturating_sub(5);
        let more = (more > 0).then(|| format!("and {more} more"));
        told.chain(more).collect::<Vec<_>>().join("; ")
    }
}

impl Draft {
    /// The order, with what a person has said; or what is still in its way.
    pub(crate) fn finish(mut self, correction: &Correction) -> Result<Order, Failed> {
        self.problems.retain(|problem| {
            !problem.field.as_ref().is_some_and(|field| correction.fields.contains_key(field))
        });
        for (field, value) in &correction.fields {
            if let Err(detail) = put(&mut self.order, field, value.clone()) {
                let field = Some(field.clone());
                self.problems.push(CaseProblem { pointer: String::new(), field, detail });
            }
        }
        let business_key = self.business_key();
        let failed = |code, mut problems: Vec<CaseProblem>| {
            problems.truncate(PROBLEMS_MAX);
            Err(Failed { code, problems, business_key: business_key.clone() })
        };
        if !self.problems.is_empty() {
            let is_unreadable = self.order.is_null();
            let code = if is_unreadable { DELIVERY_UNREADABLE } else { ORDER_INCOMPLETE };
            let doubt = self.doubt.map(|doubt| doubt.code);
            return failed(doubt.unwrap_or(code), self.problems);
        }
        let order = match serde_json::from_value::<Order>(self.order) {
            Ok(order) => order.with_one_name(),
            Err(_) => {
                let detail = "what was filled in does not have the form of an order";
                return failed(ORDER_INCOMPLETE, vec![super::node::problem("", detail)]);
            }
        };
        if let Some(doubt) = self.doubt.filter(|_| !correction.anyway) {
            return failed(doubt.code, vec![super::node::problem(doubt.pointer, doubt.detail)]);
        }
        match order.validate() {
            Ok(()) => Ok(order),
            Err(problems) if is_of_total(&problems) && correction.anyway => explained(order)
                .ok_or_else(|| Failed {
                    code: TOTAL_MISMATCH,
                    problems: problems.into_iter().map(in_order).collect(),
                    business_key,
                }),
            Err(problems) => {
                let code = if is_of_total(&problems) { TOTAL_MISMATCH } else { ORDER_INCOMPLETE };
                failed(code, problems.into_iter().map(in_order).collect())
            }
        }
    }

    fn business_key(&self) -> Option<String> {
        let text = |name: &str| self.order.get(name)?.as_str();
        let key = format!("{}/{}", text("shop")?, text("order_id")?);
        Some(key.parse::<amends_workflows::order::OrderKey>().ok()?.to_string())
    }
}

fn is_of_total(problems: &[Problem]) -> bool {
    matches!(problems, [only] if only.pointer == "/total_minor")
}

/// The order with its remainder as a part of its own.
fn explained(mut order: Order) -> Option<Order> {
    let remainder = order.remainder_minor()?;
    order.extras.push(Extra { kind: ExtraKind::Unexplained, amount_minor: remainder });
    order.validate().is_ok().then_some(order)
}

/// What is wrong with the order that was made of what was sent.
fn in_order(problem: Problem) -> CaseProblem {
    let Problem { pointer, detail } = problem;
    CaseProblem { pointer: String::new(), field: Some(pointer), detail }
}

/// Puts a value at a place, and makes the objects on the way.
fn put(order: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    let path = pointer.strip_prefix('/').ok_or("is no JSON pointer such as /customer/email")?;
    let mut place = order;
    for name in path.split('/') {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = match place {
            Value::Object(members) => members.entry(name.to_owned()).or_insert(Value::Null),
            Value::Array(entries) => name
                .parse::<usize>()
                .ok()
                .and_then(|index| entries.get_mut(index))
                .ok_or("there is no such entry")?,
            _ => return Err("is not within an object or a list".to_owned()),
        };
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn draft() -> Draft {
        let order = json!({
            "shop": "acme.example", "order_id": "1", "number": "#1", "currency": "EUR",
            "lines": [{"sku": null, "title": "Tee", "quantity": 1, "unit_price_minor": 2000}],
            "total_minor": 2000, "customer": {"name": "Jane Tan"},
        });
        let problems = vec![CaseProblem {
            pointer: "/line_items/0/sku".to_owned(),
            field: Some("/lines/0/sku".to_owned()),
            detail: "is needed, and missing".to_owned(),
        }];
        Draft { order, problems, doubt: None }
    }

    fn with(fields: &[(&str, Value)], anyway: bool) -> Correction {
        let field = |(place, value): &(&str, Value)| ((*place).to_owned(), value.clone());
        Correction { fields: fields.iter().map(field).collect(), anyway }
    }

    #[test]
    fn what_is_missing_can_be_filled_in() {
        let failed = draft().finish(&Correction::default()).expect_err("incomplete");
        assert_eq!(failed.code, ORDER_INCOMPLETE);
        assert_eq!(failed.business_key.as_deref(), Some("acme.example/1"));
        assert_eq!(failed.message(), "/lines/0/sku: is needed, and missing");
        let filled_in = [("/lines/0/sku", json!("TEE")), ("/recipient/name", json!("Jane"))];
        let failed = draft().finish(&with(&filled_in, false)).expect_err("half an address");
        assert_eq!(failed.code, ORDER_INCOMPLETE);
        let order = draft().finish(&with(&filled_in[..1], false)).expect("an order");
        assert_eq!((&*order.lines[0].sku, order.recipient), ("TEE", None));
    }

    #[test]
    fn no_place_is_made_where_none_can_be() {
        for place in ["lines", "/lines/7/sku", "/lines/x", "/number/0"] {
            let fields = [("/lines/0/sku", json!("TEE")), (place, json!("x"))];
            let failed = draft().finish(&with(&fields, true)).expect_err("no such place");
            assert_eq!(failed.problems[0].field.as_deref(), Some(place));
        }
    }

    #[test]
    fn a_doubt_and_a_remainder_are_for_a_person_to_let_pass() {
        let sku = || ("/lines/0/sku", json!("TEE"));
        let doubt = Doubt { code: "PARTIALLY_PAID", pointer: "/financial_status", detail: "why" };
        let doubtful = Draft { doubt: Some(doubt), ..draft() };
        let failed = doubtful.clone().finish(&with(&[sku()], false)).expect_err("doubt");
        assert_eq!(
            (failed.code, &*failed.problems[0].pointer),
            ("PARTIALLY_PAID", "/financial_status")
        );
        assert!(doubtful.finish(&with(&[sku()], true)).is_ok());

        let total = [sku(), ("/total_minor", json!(2345))];
        let failed = draft().finish(&with(&total, false)).expect_err("a remainder");
        assert_eq!(failed.code, TOTAL_MISMATCH);
        let order = draft().finish(&with(&total, true)).expect("an order");
        assert_eq!(order.extras, [Extra { kind: ExtraKind::Unexplained, amount_minor: 345 }]);
    }
}
