//! The mail provider: writes to customers. What is sent stays sent.

use super::Answer;

/// A provider that fills in a template and sends it.
pub trait Mail: Send + Sync {
    /// Sends the message `template` about an order to the address `to`.
    fn send<'a>(
        &'a self,
        key: &'a str,
        business_key: &'a str,
        to: &'a str,
        template: &'a str,
    ) -> Answer<'a, Message>;
}

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The mail provider's reference.
    pub message_id: String,
}
