//! The providers' own no: a problem document (RFC 9457) with a code of their protocol.
//!
//! Whatever stands between us and a provider can answer with any status, with HTML, JSON, or a
//! problem document of its own. Only a code of this closed list, with its status and as
//! `application/problem+json`, is the provider's word.

use serde::Deserialize;

use super::verdict::Refusal;

/// What a no of the provider proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// This request was not looked at; a later one may be carried out.
    NotNow,
    /// The same, for want of credentials that are accepted.
    NotAllowed,
    /// This request was not carried out, and will not be if it is sent again. Of other requests
    /// under its key this says nothing.
    NotThis,
    /// Nothing was carried out under this key, and nothing will be.
    Never,
}

/// The codes of the protocol, each with its status and what it proves.
const CODES: &[(&str, u16, Proof)] = &[
    ("rate_limited", 429, Proof::NotNow),
    ("unavailable", 503, Proof::NotNow),
    ("credentials_missing", 401, Proof::NotAllowed),
    ("credentials_refused", 403, Proof::NotAllowed),
    ("body_invalid", 400, Proof::NotThis),
    ("body_too_large", 413, Proof::NotThis),
    ("idempotency_key_missing", 400, Proof::NotThis),
    ("idempotency_key_invalid", 400, Proof::NotThis),
    // What was asked for under the key before may have been carried out.
    ("idempotency_key_reused", 422, Proof::NotThis),
    ("declined", 402, Proof::Never),
    ("card_declined", 402, Proof::Never),
    ("refused", 422, Proof::Never),
    ("out_of_stock", 422, Proof::Never),
    ("shipment_refused", 422, Proof::Never),
    ("refund_too_large", 422, Proof::Never),
    // The key was undone before it could be used.
    ("already_undone", 409, Proof::Never),
];

const MEDIA_TYPE: &str = "application/problem+json";

/// The members of a problem document that are looked at.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Problem {
    detail: Option<String>,
    code: Option<String>,
}

impl Problem {
    /// Reads a body of this media type; empty if it is no problem document.
    pub(super) fn read(content_type: Option<&str>, body: Option<&[u8]>) -> Self {
        let media_type = content_type.and_then(|it| it.split(';').next()).unwrap_or_default();
        if !media_type.trim().eq_ignore_ascii_case(MEDIA_TYPE) {
            return Self::default();
        }
        body.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default()
    }

    /// What the provider says and proves; none if it is not certain that it is the provider.
    pub(super) fn said_by_provider(&self, status: u16) -> Option<(Proof, Refusal)> {
        let given = self.code.as_deref()?;
        let known = CODES.iter().find(|(code, its, _)| *code == given && *its == status);
        known.map(|&(code, _, proof)| (proof, Refusal { code }))
    }

    /// What it says to people.
    pub(super) fn detail(&self) -> &str {
        self.detail.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_status_and_none_is_a_success() {
        for (index, (code, status, _)) in CODES.iter().enumerate() {
            assert!((400..600).contains(status), "{code}");
            assert!(CODES[..index].iter().all(|(other, _, _)| other != code), "{code}");
        }
    }

    #[test]
    fn a_code_counts_with_its_own_status_and_as_a_problem_document_only() {
        let said = |content_type: Option<&str>, status, body: &str| {
            let problem = Problem::read(content_type, Some(body.as_bytes()));
            problem.said_by_provider(status).map(|(proof, refusal)| (proof, refusal.code))
        };
        let declined = r#"{"code":"card_declined"}"#;
        for content_type in [
            "application/problem+json",
            "application/problem+json; charset=utf-8",
            "Application/Problem+JSON ;charset=utf-8",
        ] {
            let expected = Some((Proof::Never, "card_declined"));
            assert_eq!(said(Some(content_type), 402, declined), expected, "{content_type}");
        }
        for content_type in [None, Some("application/json"), Some("text/html"), Some("")] {
            assert_eq!(said(content_type, 402, declined), None, "{content_type:?}");
        }
        let problem = Some(MEDIA_TYPE);
        for status in [200, 400, 403, 404, 422, 503] {
            assert_eq!(said(problem, status, declined), None, "{status}");
        }
        for body in [
            r#"{"code":"insufficient_funds"}"#,
            r#"{"code":"CARD_DECLINED"}"#,
            r#"{"code":402}"#,
            r#"{"code":null}"#,
            r#"{"title":"card_declined"}"#,
            r#"{"code":"card_declined","code":"declined"}"#,
            r#"{"code":"card_declined""#,
            r#"["card_declined"]"#,
            "",
        ] {
            assert_eq!(said(problem, 402, body), None, "{body}");
        }
    }
}
