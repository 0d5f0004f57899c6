//! Proof that a delivery was signed with a secret of its shop.
//!
//! An unknown shop costs the same work as a wrong signature, and every secret is tried, so that
//! neither the answer nor its time tells which of them it was.

use std::iter;

use amends_workflows::order::ShopName;
use axum::body::Bytes;
use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;

/// How many secrets are tried at least; what is missing is made up, and never fits.
const CANDIDATES_MIN: usize = 2;
const DECOY: &[u8] = b"whatever is signed with this is refused";

/// A delivery as it came. Nothing in it can be believed.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// The shop that the path names.
    pub(crate) shop: String,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body, to the byte.
    pub(crate) body: Bytes,
}

/// A delivery whose signature fits. Only [`Verified::hmac_sha256`] makes one.
#[derive(Debug)]
pub(crate) struct Verified {
    received: Received,
    shop: ShopName,
}

impl Verified {
    /// Checks `claimed`, which should be HMAC-SHA256 over `signed` with one of the `secrets`.
    pub(crate) fn hmac_sha256(
        received: Received,
        secrets: &[Secret],
        signed: &[&[u8]],
        claimed: &[u8],
    ) -> Option<Self> {
        let own = secrets.iter().map(|secret| (secret.expose().as_bytes(), true));
        let candidates =
            own.chain(iter::repeat((DECOY, false))).take(secrets.len().max(CANDIDATES_MIN));
        let fits = candidates.fold(false, |fits, (secret, counts)| {
            fits | (hmac_fits(secret, signed, claimed) & counts)
        });
        // What is no name of a shop has no secrets, so nothing fits it.
        let shop = received.shop.parse().ok().filter(|_| fits)?;
        Some(Self { received, shop })
    }

    /// The shop whose secret it was signed with.
    pub(crate) fn shop(&self) -> &ShopName {
        &self.shop
    }

    /// The headers, which are not signed.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.received.headers
    }

    /// The body, to the byte.
    pub(crate) fn body(&self) -> &Bytes {
        &self.received.body
    }
}

fn hmac_fits(secret: &[u8], signed: &[&[u8]], claimed: &[u8]) -> bool {
    // HMAC takes keys of any length, so there is always one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return false;
    };
    for part in signed {
        mac.update(part);
    }
    mac.verify_slice(claimed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(secrets: &[&str], signing: &[u8]) -> bool {
        let received = Received {
            shop: "acme".to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(b"body"),
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(signing).expect("any length");
        mac.update(b"body");
        let claimed = mac.finalize().into_bytes();
        let secrets: Vec<_> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        Verified::hmac_sha256(received, &secrets, &[b"bo", b"dy"], &claimed).is_some()
    }

    #[test]
    fn any_secret_of_the_shop_verifies_and_no_other() {
        assert!(fits(&["old", "new"], b"old"));
        assert!(fits(&["old", "new"], b"new"));
        assert!(fits(&["a", "b", "c"], b"c"));
        assert!(!fits(&["old", "new"], b"other"));
    }

    #[test]
    fn the_decoy_never_verifies() {
        assert!(!fits(&[], DECOY));
        assert!(!fits(&["new"], DECOY));
    }
}
