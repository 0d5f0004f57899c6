//! What platforms send: verified, identified, translated, stored, answered, in this order.
//!
//! A platform is a source in a file of its own. The steps between them are the same for all. Nothing
//! but a valid signature leads past the first, and whatever has one is kept: what cannot be carried
//! out as it is becomes a case for a person.

pub mod shopify;
mod shops;
mod signature;

use amends::Delivery;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};

use crate::app::{App, uncancelled};
use crate::auth::refuse_credential;
use crate::intake::draft::{Correction, Failed};
use crate::intake::news::{News, Refunded};
use crate::intake::signed;
use crate::listen::Peer;
use crate::metrics::BadCredential;
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

    /// Reads what names the delivery.
    fn identify(verified: &Verified) -> Identity;

    /// Says what is to be done about a delivery, from what is kept of it alone.
    fn translate(kept: &Kept<'_>, correction: &Correction) -> Translated;
}

/// What names a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// What it is about, in the platform's words.
    pub(crate) topic: String,
    /// The platform's id of it, the same for every attempt to deliver it; if it has a sound one.
    pub(crate) id: Option<String>,
    /// Why it cannot be carried out, if that is known already.
    pub(crate) failed: Option<Failed>,
}

/// What is kept of a delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept<'a> {
    /// The shop that has signed it.
    pub(crate) shop: &'a str,
    /// What it is about, in the platform's words.
    pub(crate) topic: &'a str,
    /// Its body, to the byte.
    pub(crate) body: &'a [u8],
    /// When it was received.
    pub(crate) received_at: DateTime<Utc>,
}

/// What is to be done about a delivery.
#[derive(Debug, PartialEq)]
pub(crate) enum Translated {
    /// Carry out an order, or hear what it says of one that was started.
    Order(Box<News>),
    /// Count what was given back of one that was started.
    Refunded(Refunded),
    /// Nothing.
    Ignored {
        /// Why, as a stable code.
        reason: &'static str,
        /// What it is about, if that is known.
        business_key: Option<String>,
    },
    /// A person has to see to it.
    Failed(Failed),
    /// The same, if it is news of something that was started; it starts nothing itself.
    FailedNews(Failed),
}

/// Takes in a delivery. 200 says that it is durable, or was before; and if it cannot be carried out,
/// or contradicts what was started before, that a person will see it.
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
    let (delivery, translated) = read::<S>(&verified, app.now());
    uncancelled(signed::take_in(app.clone(), delivery, translated)).await?;
    Ok(StatusCode::OK)
}

/// What is kept of a delivery, and what is to be done about it.
pub(crate) fn read<S: Source>(
    verified: &Verified,
    received_at: DateTime<Utc>,
) -> (Delivery, Translated) {
    let Identity { topic, id, failed } = S::identify(verified);
    let shop = verified.shop().as_str();
    let body = verified.body();
    let kept = Kept { shop, topic: &topic, body, received_at };
    let translated = match failed {
        Some(failed) => Translated::Failed(failed),
        None => S::translate(&kept, &Correction::default()),
    };
    let delivery = Delivery {
        source: format!("{}/{shop}", S::NAME),
        external_id: format!("{topic}/{}", id.as_deref().unwrap_or_default()),
        body: body.to_vec(),
    };
    let delivery = if id.is_some() { delivery } else { signed::under_its_digest(delivery) };
    (delivery, translated)
}

/// Translates a delivery that was kept before. None: it came from no platform.
pub(crate) fn translate(
    (source, external_id): (&str, &str),
    body: &[u8],
    received_at: DateTime<Utc>,
    correction: &Correction,
) -> Option<Translated> {
    let (platform, rest) = source.split_once('/')?;
    let shop = rest.split('/').next()?;
    let (topic, _) = external_id.rsplit_once('/')?;
    let kept = Kept { shop, topic, body, received_at };
    match platform {
        shopify::Shopify::NAME => Some(shopify::Shopify::translate(&kept, correction)),
        _ => None,
    }
}

/// Whether the deliveries of a source are signed by their shop.
pub(crate) fn is_signed(source: &str) -> bool {
    source.split_once('/').is_some_and(|(platform, _)| platform == shopify::Shopify::NAME)
}
