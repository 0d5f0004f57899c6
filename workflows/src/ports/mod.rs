//! The providers that steps talk to, behind one trait each.
//!
//! Every call that changes something carries a key, and a provider applies a key once. Every undo
//! names the key of what it undoes and means "make sure that it is not applied": nothing to undo
//! is success. Errors say whether the call was applied ([`StepError`]) and carry the codes of
//! [`crate::failure`].

pub mod carrier;
pub mod invoices;
pub mod mail;
pub mod payments;
pub mod shop;
pub mod stock;

pub(crate) mod http;
mod instant;

use std::sync::Arc;

use amends::StepError;
use futures::future::BoxFuture;

pub use carrier::Carrier;
pub use http::HttpSetupError;
pub use invoices::Invoices;
pub use mail::Mail;
pub use payments::Payments;
pub use shop::Shop;
pub use stock::Stock;

pub(crate) use http::CALL_TIMEOUT;

/// What a call to a provider comes to.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StepError>>;

/// One provider of each kind.
#[derive(Clone)]
pub struct Ports {
    /// Reserves articles.
    pub stock: Arc<dyn Stock>,
    /// Issues invoices.
    pub invoices: Arc<dyn Invoices>,
    /// Takes and returns money.
    pub payments: Arc<dyn Payments>,
    /// Ships parcels.
    pub carrier: Arc<dyn Carrier>,
    /// Writes to customers.
    pub mail: Arc<dyn Mail>,
    /// Has or keeps the money of orders that were paid where they were placed.
    pub shop: Arc<dyn Shop>,
}

impl Ports {
    /// Providers reached over HTTP, all below `base_url`.
    ///
    /// Nothing is sent yet; a provider that cannot be reached shows with the first call.
    pub fn http(base_url: &str) -> Result<Self, HttpSetupError> {
        Ok(Self::all(Arc::new(http::Http::try_new(base_url)?)))
    }

    /// Providers inside this process that grant everything at once and keep nothing.
    #[must_use]
    pub fn instant() -> Self {
        Self::all(Arc::new(instant::Instant))
    }

    fn all<P>(provider: Arc<P>) -> Self
    where
        P: Stock + Invoices + Payments + Carrier + Mail + Shop + 'static,
    {
        Self {
            stock: provider.clone(),
            invoices: provider.clone(),
            payments: provider.clone(),
            carrier: provider.clone(),
            mail: provider.clone(),
            shop: provider,
        }
    }
}
