//! The stable codes with which steps fail, in one place, so that the runbook can be checked
//! against them.

/// An item is not in stock.
pub const OUT_OF_STOCK: &str = "OUT_OF_STOCK";
/// The payment provider declined the charge.
pub const PAYMENT_DECLINED: &str = "PAYMENT_DECLINED";
/// The carrier refused the parcel.
pub const SHIPMENT_ERROR: &str = "SHIPMENT_ERROR";
/// The provider was not reached, or has said itself that it did not look at the request.
pub const PROVIDER_DOWN: &str = "PROVIDER_DOWN";
/// The provider did not answer in time.
pub const PROVIDER_TIMEOUT: &str = "PROVIDER_TIMEOUT";
/// The provider failed or broke off, or something between us and it answered.
pub const PROVIDER_ERROR: &str = "PROVIDER_ERROR";
/// The provider refused the request.
pub const PROVIDER_REFUSED: &str = "PROVIDER_REFUSED";
/// The provider refused our credentials.
pub const PROVIDER_REFUSED_CREDENTIALS: &str = "PROVIDER_REFUSED_CREDENTIALS";

/// Every code with its meaning in one sentence.
pub const CODES: &[(&str, &str)] = &[
    (
        OUT_OF_STOCK,
        "Not every article can be reserved, and nothing is; or it was reserved for longer than it \
         is kept, and another order has it.",
    ),
    (PAYMENT_DECLINED, "The payment provider declined the charge for good; no money moved."),
    (SHIPMENT_ERROR, "The carrier refused the parcel for good; nothing was shipped."),
    (
        PROVIDER_DOWN,
        "No connection to the provider was made, or it said itself that it was too busy; the \
         request was not applied.",
    ),
    (PROVIDER_TIMEOUT, "The provider did not answer in time; the request may have been applied."),
    (
        PROVIDER_ERROR,
        "The provider failed inside or broke off, or the answer does not bear its mark and may be \
         that of a gateway; what was applied is not certain.",
    ),
    (
        PROVIDER_REFUSED,
        "The provider itself refused the request for good, for a reason that has no code of its \
         own; it was not applied.",
    ),
    (
        PROVIDER_REFUSED_CREDENTIALS,
        "The provider itself does not accept our credentials; the request was not applied, and \
         none will be until they are replaced.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_upper_case_listed_once_and_explained() {
        for (index, (code, meaning)) in CODES.iter().enumerate() {
            assert!(code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{code}");
            assert!(meaning.ends_with('.'), "{code}");
            assert!(CODES[..index].iter().all(|(other, _)| other != code), "{code}");
        }
    }
}
