//! Fingerprints: what a frame is recognised by, on every connection and in the topic.
//!
//! The feed side computes one per frame, the window looks entries up by it, record headers carry it. Nothing here
//! is keyed: a hostile feed could forge collisions, an honest one will not meet one (10^10 payloads: about 10^-19).

use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Seeds that keep a text frame and a binary frame with the same bytes apart.
const TEXT_SEED: u64 = 0;
const BINARY_SEED: u64 = 0x7477_696e_6665_6564;

/// Names the WebSocket opcode a payload came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Opcode 1, UTF-8.
    Text,
    /// Opcode 2, any bytes.
    Binary,
}

/// Identifies the content of a frame: xxh3-128 of its kind and its (canonical) payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Computes the fingerprint of a payload; equal bytes of different kinds differ.
    pub fn of(kind: FrameKind, payload: &[u8]) -> Self {
        let seed = match kind {
            FrameKind::Text => TEXT_SEED,
            FrameKind::Binary => BINARY_SEED,
        };
        Self(xxh3_128_with_seed(payload, seed))
    }

    /// Restores a fingerprint from a record header or a message between nodes.
    pub const fn from_u128(value: u128) -> Self {
        Self(value)
    }

    /// Returns the 128 bits, as headers and snapshots carry them.
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Hashes fingerprints by folding them: they are hashes already.
#[derive(Default)]
pub(crate) struct FoldingHasher(u64);

/// The hasher of every map keyed by [`Fingerprint`].
pub(crate) type Folding = BuildHasherDefault<FoldingHasher>;

impl Hasher for FoldingHasher {
    fn write_u128(&mut self, value: u128) {
        // The multiplication spreads fingerprints that a caller made from small numbers.
        self.0 = ((value >> 64) as u64 ^ value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_with_equal_bytes_differ() {
        assert_ne!(Fingerprint::of(FrameKind::Text, b"{}"), Fingerprint::of(FrameKind::Binary, b"{}"));
    }

    /// Record headers outlive a release: the value must never change.
    #[test]
    fn text_is_plain_xxh3_128() {
        let published = 0x99aa_06d3_0147_98d8_6001_c324_468d_497f;
        assert_eq!(Fingerprint::of(FrameKind::Text, b"").as_u128(), published);
    }
}
