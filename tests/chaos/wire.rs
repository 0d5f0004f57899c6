//! What is to be known of the protocols that are broken: which requests carry weight.

/// Binding so many values is the write path's own statement; no other one comes near.
const VALUES_OF_A_COMMIT: u16 = 50;

/// Whether these bytes are a commit of the engine: the message `Bind` of its one large statement.
pub(crate) fn is_commit(request: &[u8]) -> bool {
    values_bound(request).is_some_and(|values| values >= VALUES_OF_A_COMMIT)
}

/// Whether these bytes are a call that changes something at a provider.
pub(crate) fn is_call(request: &[u8]) -> bool {
    request.starts_with(b"POST ")
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
        assert!(is_commit(&bind(62)));
        assert!(!is_commit(&bind(3)));
        for other in [&b""[..], b"B", b"Q\0\0\0\x08select", b"B\0\0\0\0\0sqlx_s_1\0\0\xff"] {
            assert!(!is_commit(other));
        }
    }

    #[test]
    fn a_call_is_known_by_its_method() {
        assert!(is_call(b"POST /payments/charges HTTP/1.1\r\n"));
        assert!(!is_call(b"GET /ledger HTTP/1.1\r\n"));
    }
}
