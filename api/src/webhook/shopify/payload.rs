//! An order as Shopify describes it, made into ours.
//!
//! Of what Shopify sends, nearly everything may be null. What is missing is named, all at once.

use amends::Currency;
use amends_workflows::order::{self, parse_minor};
use serde::Deserialize;

use crate::problem::{Code, Invalid, Problem};

#[derive(Debug, Deserialize)]
pub(super) struct Order {
    id: u64,
    name: Option<String>,
    email: Option<String>,
    currency: Option<String>,
    total_price: Option<String>,
    total_tax: Option<String>,
    total_discounts: Option<String>,
    taxes_included: Option<bool>,
    line_items: Option<Vec<LineItem>>,
    shipping_lines: Option<Vec<ShippingLine>>,
    customer: Option<Customer>,
    shipping_address: Option<Address>,
}

#[derive(Debug, Deserialize)]
struct LineItem {
    sku: Option<String>,
    title: Option<String>,
    quantity: u32,
    price: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ShippingLine {
    price: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Customer {
    first_name: Option<String>,
    last_name: Option<String>,
    email: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Address {
    name: Option<String>,
    address1: Option<String>,
    address2: Option<String>,
    city: Option<String>,
    zip: Option<String>,
    country_code: Option<String>,
}

/// Makes an order of `shop` of what Shopify sent, or names everything that keeps it from being one.
pub(super) fn translate(payload: Order, shop: String) -> Result<order::Order, Problem> {
    let mut reader = Reader::default();
    let order = reader.order(payload, shop);
    match order {
        Some(order) if reader.missing.is_empty() => Ok(order),
        _ => Err(Problem::new(Code::InvalidOrder, "the order cannot be accepted; see errors")
            .with_errors(reader.missing)),
    }
}

/// Reads parts of an order and keeps what was wrong with them. Where a part is `None`, there is
/// an entry that says why.
#[derive(Default)]
struct Reader {
    missing: Vec<Invalid>,
}

impl Reader {
    fn order(&mut self, payload: Order, shop: String) -> Option<order::Order> {
        let recipient = self.recipient(payload.shipping_address);
        let customer = self.customer(payload.customer, payload.email, recipient.as_ref());
        let number = self.needed(payload.name, "/name");
        let currency = self.currency(payload.currency)?;

        let lines = self.lines(payload.line_items.unwrap_or_default(), currency);
        let shipping = payload.shipping_lines.unwrap_or_default();
        let shipping_minor = self.shipping(shipping, currency);
        let tax = match payload.taxes_included {
            // The prices hold the tax already.
            Some(true) => Some(0),
            _ => self.amount(payload.total_tax.or_else(zero), "/total_tax", currency),
        };
        let discount = payload.total_discounts.or_else(zero);
        let discount_minor = self.amount(discount, "/total_discounts", currency);
        let total_minor = self.amount(payload.total_price, "/total_price", currency);

        Some(order::Order {
            shop,
            order_id: payload.id.to_string(),
            number: number?,
            currency,
            lines: lines?,
            shipping_minor: shipping_minor?,
            tax_minor: tax?,
            discount_minor: discount_minor?,
            total_minor: total_minor?,
            customer: customer?,
            recipient: recipient?,
        })
    }

    fn recipient(&mut self, address: Option<Address>) -> Option<order::Recipient> {
        let address = self.needed_part(address, "/shipping_address")?;
        let street = self.needed(address.address1, "/shipping_address/address1");
        let name = self.needed(address.name, "/shipping_address/name");
        let country = self.needed(address.country_code, "/shipping_address/country_code");
        let rest = address.address2.filter(|text| !text.trim().is_empty());
        Some(order::Recipient {
            name: name?,
            address: [street?].into_iter().chain(rest).collect::<Vec<_>>().join("\n"),
            city: address.city.unwrap_or_default(),
            postcode: address.zip.unwrap_or_default(),
            country: country?,
        })
    }

    fn customer(
        &mut self,
        customer: Option<Customer>,
        order_email: Option<String>,
        recipient: Option<&order::Recipient>,
    ) -> Option<order::Customer> {
        let customer = self.needed_part(customer, "/customer")?;
        let email = order_email.filter(|email| !email.is_empty()).or(customer.email);
        let names = [customer.first_name, customer.last_name];
        let names: Vec<_> =
            names.into_iter().flatten().filter(|name| !name.trim().is_empty()).collect();
        let name = if names.is_empty() {
            recipient.map(|recipient| recipient.name.clone()).unwrap_or_default()
        } else {
            names.join(" ")
        };
        Some(order::Customer { name, email: self.needed(email, "/customer/email")? })
    }

    fn currency(&mut self, currency: Option<String>) -> Option<Currency> {
        let currency = self.needed(currency, "/currency")?.parse();
        if currency.is_err() {
            self.wrong("/currency", "has to be three capital letters");
        }
        currency.ok()
    }

    fn lines(&mut self, items: Vec<LineItem>, currency: Currency) -> Option<Vec<order::Line>> {
        let line = |(index, item): (usize, LineItem)| {
            let at = |member| format!("/line_items/{index}/{member}");
            let sku = self.needed(item.sku, &at("sku"));
            let unit_price_minor = self.amount(item.price, &at("price"), currency);
            Some(order::Line {
                sku: sku?,
                title: item.title.unwrap_or_default(),
                quantity: item.quantity,
                unit_price_minor: unit_price_minor?,
            })
        };
        // Every line is read, so that all that is missing is named.
        let lines: Vec<_> = items.into_iter().enumerate().map(line).collect();
        lines.into_iter().collect()
    }

    fn shipping(&mut self, lines: Vec<ShippingLine>, currency: Currency) -> Option<i64> {
        let mut sum_minor = Some(0_i64);
        for (index, line) in lines.into_iter().enumerate() {
            let pointer = format!("/shipping_lines/{index}/price");
            let price_minor = self.amount(line.price, &pointer, currency);
            sum_minor = match (sum_minor, price_minor) {
                (Some(sum), Some(price)) => sum.checked_add(price).or_else(|| {
                    self.wrong(&pointer, "is too large");
                    None
                }),
                _ => None,
            };
        }
        sum_minor
    }

    fn amount(
        &mut self,
        decimal: Option<String>,
        pointer: &str,
        currency: Currency,
    ) -> Option<i64> {
        let decimal = self.needed(decimal, pointer)?;
        match parse_minor(&decimal, currency) {
            Ok(amount_minor) => Some(amount_minor),
            Err(error) => {
                self.wrong(pointer, &error.to_string());
                None
            }
        }
    }

    fn needed(&mut self, text: Option<String>, pointer: &str) -> Option<String> {
        self.needed_part(text.filter(|text| !text.trim().is_empty()), pointer)
    }

    fn needed_part<T>(&mut self, part: Option<T>, pointer: &str) -> Option<T> {
        if part.is_none() {
            self.wrong(pointer, "is needed, and missing");
        }
        part
    }

    fn wrong(&mut self, pointer: &str, detail: &str) {
        self.missing.push(Invalid { pointer: pointer.to_owned(), detail: detail.to_owned() });
    }
}

fn zero() -> Option<String> {
    Some("0".to_owned())
}
