//! The surplus as bytes: the records in the topic that a subscription has not delivered yet.
//!
//! The owner encodes them when the standby's subscription aligns, the standby decodes them. The layout is little-endian and
//! versioned, because two releases of the program talk to each other during a rolling upgrade:
//! `"TFSP"`, version u16, reserved u16 (0), count u32, then count times (epoch u64, sequence u64, fingerprint u128),
//! then the xxh3-64 of everything before it.

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::{Fingerprint, RecordId};

const MAGIC: [u8; 4] = *b"TFSP";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 12;
const RECORD_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 8;

/// Says why bytes are not a surplus snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Shorter than an empty snapshot, or not as long as its count says.
    #[error(
        "surplus snapshot has {actual_bytes} bytes instead of {expected_bytes}; the message was cut: reconnect the relay"
    )]
    Length {
        /// Bytes an intact snapshot would have.
        expected_bytes: u64,
        /// Bytes there are.
        actual_bytes: u64,
    },
    /// Not a surplus snapshot at all.
    #[error("surplus snapshot starts with {found:02x?}; the peer speaks another protocol: check its address")]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// Written by a release that this one does not know.
    #[error("surplus snapshot has version {found}, this release reads {VERSION}; finish the upgrade of all nodes")]
    Version {
        /// The version found.
        found: u16,
    },
    /// The content was changed on the way.
    #[error("surplus snapshot fails its checksum; the message was damaged: reconnect the relay")]
    Checksum,
}

/// Encodes a surplus; at most `u32::MAX` records, far above what a window may hold.
pub fn encode(records: &[(RecordId, Fingerprint)]) -> Vec<u8> {
    let count = u32::try_from(records.len()).expect("a window holds at most 16,777,216 entries");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + records.len() * RECORD_BYTES + CHECKSUM_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(count.to_le_bytes());
    for (record, fingerprint) in records {
        bytes.extend(record.epoch.to_le_bytes());
        bytes.extend(record.sequence.to_le_bytes());
        bytes.extend(fingerprint.as_u128().to_le_bytes());
    }
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes
}

/// Decodes a surplus; never panics, and allocates no more than the bytes justify.
///
/// # Errors
/// See [`SnapshotError`]; the caller drops the relay and starts over.
pub fn decode(bytes: &[u8]) -> Result<Vec<(RecordId, Fingerprint)>, SnapshotError> {
    let length =
        |expected: usize| SnapshotError::Length { expected_bytes: expected as u64, actual_bytes: bytes.len() as u64 };
    let (body, checksum) =
        bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| length(HEADER_BYTES + CHECKSUM_BYTES))?;
    let (header, records) =
        body.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| length(HEADER_BYTES + CHECKSUM_BYTES))?;
    let [m0, m1, m2, m3, v0, v1, _, _, c0, c1, c2, c3] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(SnapshotError::Magic { found: [m0, m1, m2, m3] });
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(SnapshotError::Version { found: version });
    }
    let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    if records.len() != count.saturating_mul(RECORD_BYTES) {
        return Err(length(count.saturating_mul(RECORD_BYTES).saturating_add(HEADER_BYTES + CHECKSUM_BYTES)));
    }
    if xxh3_64(body) != u64::from_le_bytes(*checksum) {
        return Err(SnapshotError::Checksum);
    }
    let (records, _) = records.as_chunks::<RECORD_BYTES>();
    Ok(records.iter().map(decode_record).collect())
}

fn decode_record(bytes: &[u8; RECORD_BYTES]) -> (RecordId, Fingerprint) {
    let value = u128::from_le_bytes(bytes[..16].try_into().expect("half of 32 bytes"));
    let fingerprint = u128::from_le_bytes(bytes[16..].try_into().expect("half of 32 bytes"));
    (RecordId { epoch: value as u64, sequence: (value >> 64) as u64 }, Fingerprint::from_u128(fingerprint))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(epoch: u64, sequence: u64, fingerprint: u128) -> (RecordId, Fingerprint) {
        (RecordId { epoch, sequence }, Fingerprint::from_u128(fingerprint))
    }

    /// Two releases talk to each other during an upgrade: these bytes never change under version 1.
    #[test]
    fn version_1_is_golden() {
        let bytes = encode(&[record(1, 2, 3), record(0x0102_0304_0506_0708, u64::MAX, u128::MAX - 1)]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "54465350\
             0100\
             0000\
             02000000\
             01000000000000000200000000000000\
             03000000000000000000000000000000\
             0807060504030201ffffffffffffffff\
             feffffffffffffffffffffffffffffff\
             a8b548969a1599a4"
        );
    }

    #[test]
    fn each_damage_has_its_error() {
        let good = encode(&[record(1, 2, 3)]);
        let damaged = |position: usize| {
            let mut bytes = good.clone();
            bytes[position] ^= 1;
            decode(&bytes)
        };
        assert!(matches!(damaged(0), Err(SnapshotError::Magic { .. })));
        assert_eq!(damaged(4), Err(SnapshotError::Version { found: 0 }));
        assert!(matches!(damaged(8), Err(SnapshotError::Length { .. })));
        assert_eq!(damaged(12), Err(SnapshotError::Checksum));
        assert!(matches!(decode(&[]), Err(SnapshotError::Length { expected_bytes: 20, actual_bytes: 0 })));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(records in prop::collection::vec(any::<(u64, u64, u128)>(), 0..50)) {
            let records: Vec<_> = records.into_iter().map(|(epoch, sequence, value)| record(epoch, sequence, value)).collect();
            prop_assert_eq!(decode(&encode(&records)), Ok(records));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
            let mut bytes = bytes;
            if magic && bytes.len() > 6 {
                bytes[..6].copy_from_slice(&[b'T', b'F', b'S', b'P', 1, 0]);
            }
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn a_flipped_bit_is_noticed(count in 0_u64..5, position in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let records: Vec<_> = (0..count).map(|n| record(1, n, u128::from(n) << 64)).collect();
            let mut bytes = encode(&records);
            let position = position.index(bytes.len());
            bytes[position] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
