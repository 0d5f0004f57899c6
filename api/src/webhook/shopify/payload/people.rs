//! Who pays for an order of Shopify, and who gets the goods.

use serde_json::{Map, Value, json};

use super::Reader;
use crate::intake::node::Node;

impl<'a> Reader<'a> {
    /// Who pays, and who gets the goods.
    pub(super) fn people(&mut self, is_closed: bool) {
        let address = self.root.member("shipping_address").filter(|_| !is_closed);
        let customer = self.root.member("customer");
        let billing = self.root.member("billing_address");
        let text = |node: &Option<Node<'a>>, name: &str| node.as_ref()?.member(name)?.text();
        let full_name = |node: &Option<Node<'a>>| {
            let parts = [text(node, "first_name"), text(node, "last_name")];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            Some(parts.join(" ")).filter(|name| !name.is_empty())
        };
        let named = |node: &Option<Node<'a>>| text(node, "name").or_else(|| full_name(node));
        let name = full_name(&customer).or_else(|| named(&address)).or_else(|| named(&billing));
        let email = self
            .text("email")
            .or_else(|| self.text("contact_email"))
            .or_else(|| text(&customer, "email"))
            .filter(|email| email.contains('@'));
        let phone = self
            .text("phone")
            .or_else(|| text(&customer, "phone"))
            .or_else(|| text(&address, "phone"))
            .or_else(|| text(&billing, "phone"));
        let mut who = Map::new();
        who.insert("name".to_owned(), json!(name.clone().unwrap_or_default()));
        insert(&mut who, "email", email);
        insert(&mut who, "phone", phone);
        self.set("customer", Value::Object(who));
        if let Some(address) = address {
            let name =
                named(&Some(address.clone())).or_else(|| text(&Some(address.clone()), "company"));
            self.recipient(&address, name.or(name_of(&self.order)));
        }
    }

    fn recipient(&mut self, address: &Node<'a>, name: Option<String>) {
        let text = |member: &str| address.member(member).and_then(|it| it.text());
        let street = [text("address1"), text("address2")];
        let street = street.into_iter().flatten().collect::<Vec<_>>().join("\n");
        let country = text("country_code");
        for (member, field, there) in [
            ("name", "name", name.is_some()),
            ("address1", "address", !street.is_empty()),
            ("country_code", "country", country.is_some()),
        ] {
            if !there {
                let pointer = format!("{}/{member}", address.pointer());
                let field = format!("/recipient/{field}");
                self.lacks(&pointer, Some(&field), "is needed, and missing");
            }
        }
        let company = text("company").filter(|company| Some(company) != name.as_ref());
        let mut recipient = Map::new();
        for (member, value) in [
            ("name", name.or_else(|| Some(String::new()))),
            ("company", company),
            ("address", Some(street)),
            ("city", text("city").or_else(|| Some(String::new()))),
            ("province", text("province")),
            ("postcode", text("zip").or_else(|| Some(String::new()))),
            ("country", country.map(|code| code.to_uppercase()).or_else(|| Some(String::new()))),
            ("phone", text("phone")),
        ] {
            insert(&mut recipient, member, value);
        }
        self.set("recipient", Value::Object(recipient));
    }
}

fn insert(members: &mut Map<String, Value>, name: &str, text: Option<String>) {
    if let Some(text) = text {
        members.insert(name.to_owned(), json!(text));
    }
}

/// The name of the customer that has been read.
fn name_of(order: &Map<String, Value>) -> Option<String> {
    let name = order.get("customer")?.get("name")?.as_str()?;
    Some(name.to_owned()).filter(|name| !name.is_empty())
}
