//! What is to be known of the protocols that are broken: which requests carry weight.

use crate::proxy::Mark;

/// Binding so many values is the write path's own statement; no other one comes near.
const VALUES_OF_A_COMMIT: u16 = 50;

/// Knows a commit of the engine: the message `Bind` of its one large statement.
pub(crate) fn commit(request: &[u8]) -> Option<Mark> {
    (values_bound(request)? >= VALUES_OF_A_COMMIT).then_some(Mark::Commit)
}

/// Knows a call that changes something at a provider, by its method and its key.
pub(crate) fn call(request: &[u8]) -> Option<Mark> {
    let head = String::from_utf8_lossy(request.strip_prefix(b"POST ")?);
    let mut headers = head.lines().skip(1).map_while(|line| line.split_once(": "));
    let (_, key) = headers.find(|(name, _)| name.eq_ignore_ascii_case("idempotency-key"))?;
    Some(Mark::Call(key.to_owned()))
}

/// Whether these bytes begin the answer of a provider that it has done what it was asked for. Undos
/// are answered otherwise, and nobody who stands before a provider says that something was created.
pub(crate) fn is_done(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 201 ")
}

/// How many values a message `Bind` binds, if it is one.
fn values_bound(request: &[u8]) -> Option<u16> {
    let body = request.strip_prefix(b"B")?.get(4..)?;
    let after_portal = after_text(body)?;
    let after_statement = after_text(after_portal)?;
    let (formats, rest) = number(after_statement)?;
    number(rest.get(usize::from(formats) * 2..)?).map(|(values, _)| values)
}

fn after_text(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.get(end + 1..)
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(values: u16) -> Vec<u8> {
        let mut message = b"B\0\0\0\0\0sqlx_s_1\0".to_vec();
        message.extend([0, 1, 0, 1]);
        message.extend(values.to_be_bytes());
        message
    }

    #[test]
    fn a_commit_is_known_by_how_much_it_binds() {
        assert_eq!(commit(&bind(62)), Some(Mark::Commit));
        assert_eq!(commit(&bind(3)), None);
        for other in [&b""[..], b"B", b"Q\0\0\0\x08select", b"B\0\0\0\0\0sqlx_s_1\0\0\xff"] {
            assert_eq!(commit(other), None);
        }
    }

    #[test]
    fn what_is_done_is_told_by_a_status_of_its_own() {
        assert!(is_done(b"HTTP/1.1 201 Created\r\n\r\n{}"));
        assert!(!is_done(b"HTTP/1.1 200 OK\r\n\r\n{}"));
    }

    #[test]
    fn a_call_is_known_by_its_method_and_its_key() {
        let request = b"POST /payments/charges HTTP/1.1\r\nidempotency-key: a/charge\r\n\r\n{}";
        assert_eq!(call(request), Some(Mark::Call("a/charge".to_owned())));
        assert_eq!(call(b"POST /events HTTP/1.1\r\nhost: x\r\n\r\n{}"), None);
        assert_eq!(call(b"GET /ledger HTTP/1.1\r\nidempotency-key: a\r\n\r\n"), None);
    }
}
