//! Where a page ended, as a text that callers pass on unread.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// The cursor that leads to the instances older than this one.
pub(crate) fn after(instance_id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(instance_id.as_bytes())
}

/// The instance that the page before ended with.
pub(crate) fn read(cursor: &str) -> Option<Uuid> {
    URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else_is() {
        let id = Uuid::from_u128(0x0190_a6f4_7b1c_7cc3_98c4_dc0c_0c07_398f);
        assert_eq!(read(&after(id)), Some(id));
        for cursor in ["", "AA", "!!", "0190a6f4-7b1c-7cc3-98c4-dc0c0c07398f"] {
            assert_eq!(read(cursor), None, "{cursor}");
        }
    }
}
