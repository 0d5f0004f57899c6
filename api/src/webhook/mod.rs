//! What platforms send: verified, identified, translated, stored, answered, in this order.
//!
//! A platform is a source in a file of its own. The steps between them are the same for all,
//! and nothing but a valid signature leads past the first.

pub mod shopify;
mod shops;
mod signature;

use amends::Delivery;
use amends_workflows::order::Order;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};

use crate::app::{App, uncancelled};
use crate::auth::refuse_credential;
use crate::intake::signed;
use crate::listen::Peer;
use crate::metrics::BadCredential;
use crate::orders::create;
use crate::problem::{Code, Problem};
use crate::secret::Secret;

pub use shops::Shops;
pub(crate) use signature::{Received, Verified};

/// A platform that sends webhooks.
pub(crate) trait Source {
    /// In the path of its route, in stored deliveries, and in the log.
    const NAME: &'static str;

    /// Checks the signature with every secret of the shop; an unknown shop has none.
    fn verify(received: Received, secrets: &[Secret]) -> Option<Verified>;

    /// Reads what names the delivery, and refuses one that is too old or of another shop.
    fn identify(verified: &Verified, now: DateTime<Utc>) -> Result<Identity, Problem>;

    /// Makes an order of the delivery; `None` if it is about something that starts nothing.
    fn translate(verified: &Verified, identity: &Identity) -> Result<Option<Order>, Problem>;
}

/// What names a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// What it is about, in the platform's words.
    pub(crate) topic: String,
    /// The platform's id of it; the same for every attempt to deliver it.
    pub(crate) external_id: String,
}

/// Takes in a delivery. 200 says that it is durable, or was before; and if it contradicts what was
/// started before, that a person will see it.
pub(crate) async fn receive<S: Source>(
    app: &App,
    shops: &Shops,
    peer: Option<Peer>,
    received: Received,
) -> Result<StatusCode, Problem> {
    let secrets = shops.secrets(&received.shop);
    let Some(verified) = S::verify(received, secrets) else {
        refuse_credential(app, peer, BadCredential::Signature).await;
        let detail = "the signature does not fit the body and the shop";
        return Err(Problem::new(Code::InvalidSignature, detail));
    };
    let identity = S::identify(&verified, app.now())?;
    let order = S::translate(&verified, &identity)?;
    let delivery = Delivery {
        source: format!("{}/{}", S::NAME, verified.shop()),
        external_id: identity.external_id,
        body: verified.body().to_vec(),
    };

    let Some(order) = order else {
        uncancelled(signed::record(app.clone(), delivery)).await?;
        return Ok(StatusCode::OK);
    };
    create::validate(&order).map_err(at_order)?;
    uncancelled(signed::start(app.clone(), order, delivery)).await?;
    Ok(StatusCode::OK)
}

/// Whether the deliveries of a source are signed by their shop.
pub(crate) fn is_signed(source: &str) -> bool {
    source.split_once('/').is_some_and(|(platform, _)| platform == shopify::Shopify::NAME)
}

/// The pointers of a translated order do not point into what was sent.
fn at_order(problem: Problem) -> Problem {
    let errors = problem.errors().iter().map(|error| crate::problem::Invalid {
        pointer: String::new(),
        detail: format!("as an order, {} {}", error.pointer, error.detail),
    });
    let errors = errors.collect();
    problem.with_errors(errors)
}
