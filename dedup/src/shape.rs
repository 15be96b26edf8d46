//! Shapes: what kind of message a payload is, whatever its numbers are.
//!
//! The caller lends [`Shape::of`] to a [`Merge`](crate::Merge), which asks for the shape of some new messages, never for their
//! identity: a heartbeat with a connection's number has a shape that the two lines never share a message of.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes looked at: kinds differ at the beginning, and a snapshot may have megabytes.
const BYTES_MAX: usize = 1_024;

/// The set of words of a payload. A word is a run of letters, digits and underscores without any digit, so numbers, times, UUIDs and
/// other tokens do not count; neither does how often a word comes, as lists differ in length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape(u32);

impl Shape {
    /// Stands for a message whose shape nobody has looked at.
    pub const UNKNOWN: Self = Self(0);

    /// Computes the shape of a payload.
    pub fn of(payload: &[u8]) -> Self {
        // A set as a bitmap: equal sets are equal, and different ones nearly always differ.
        let mut words = 0_u64;
        for token in payload[..payload.len().min(BYTES_MAX)].split(|byte| !is_of_a_word(*byte)) {
            if !token.is_empty() && !token.iter().any(u8::is_ascii_digit) {
                let hash = xxh3_64(token);
                words |= 1 << (hash & 63) | 1 << (hash >> 6 & 63);
            }
        }
        Self((xxh3_64(&words.to_le_bytes()) as u32).max(1))
    }
}

fn is_of_a_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_lengths_do_not_make_a_kind_and_words_do() {
        let of = |text: &str| Shape::of(text.as_bytes());
        let trade = of(r#"{"type":"trade","pair":"XBT-USD","price":1.5e-7,"id":17}"#);
        assert_eq!(trade, of(r#"{"type":"trade","pair":"XBT-USD","price":-203,"id":18}"#));
        assert_ne!(trade, of(r#"{"type":"trade","pair":"ETH-USD","price":-203,"id":18}"#));
        assert_eq!(of(r#"{"b":[["1","2"]]}"#), of(r#"{"b":[["1","2"],["3","4"],["5","6"]]}"#));
        assert_eq!(of(r#"{"conn":"a81f3c","n":1}"#), of(r#"{"conn":"Xk9Qz","n":2}"#));
        assert_ne!(of(""), Shape::UNKNOWN);
    }
}
