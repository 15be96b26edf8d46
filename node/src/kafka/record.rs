//! What Twinfeed adds to a record: one header, `tf`, with a fixed binary layout. Pure; `client` writes it, `tail` reads
//! it, and consumers and audits read it too (`docs/records.md`).
//!
//! One header, not seven: librdkafka allocates per header, and 60,000 records/s pay for each allocation.

pub use twinfeed_writer::record::OutRecord;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::ids::ClusterId;

/// Key of the header that every record of Twinfeed carries. Persisted: never rename.
pub const HEADER_KEY: &str = "tf";
/// First byte of the header. A later version only appends fields, so that older readers still find theirs.
const VERSION: u8 = 1;
/// Length of a version 1 header in bytes.
pub const STAMP_BYTES: usize = 61;

/// The content of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub epoch: u64,
    pub sequence: u64,
    pub fingerprint: u128,
    pub subscription: u64,
    pub index: u64,
    pub received_at_ns: u64,
    /// `cluster_tag` of the cluster that wrote the record.
    pub cluster: u32,
}

/// Returns the 32 bits by which records tell clusters apart.
pub fn cluster_tag(cluster: &ClusterId) -> u32 {
    // The low half of xxh3-64; persisted in every record.
    xxh3_64(cluster.0.as_bytes()) as u32
}

impl Stamp {
    pub(super) fn of(record: &OutRecord, cluster: u32) -> Self {
        Self {
            epoch: record.epoch,
            sequence: record.sequence,
            fingerprint: record.fingerprint,
            subscription: record.subscription,
            index: record.index,
            received_at_ns: record.received_at_ns,
            cluster,
        }
    }

    /// Returns the header's bytes, integers big-endian. Persisted: never reorder, never renumber.
    pub fn encode(&self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[17..33].copy_from_slice(&self.fingerprint.to_be_bytes());
        bytes[33..41].copy_from_slice(&self.subscription.to_be_bytes());
        bytes[41..49].copy_from_slice(&self.index.to_be_bytes());
        bytes[49..57].copy_from_slice(&self.received_at_ns.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.cluster.to_be_bytes());
        bytes
    }

    /// Reads a header of this or any later version; `None` when it is not one of ours.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        if version < VERSION {
            return None;
        }
        Some(Self {
            epoch: u64::from_be_bytes(take(&mut rest)?),
            sequence: u64::from_be_bytes(take(&mut rest)?),
            fingerprint: u128::from_be_bytes(take(&mut rest)?),
            subscription: u64::from_be_bytes(take(&mut rest)?),
            index: u64::from_be_bytes(take(&mut rest)?),
            received_at_ns: u64::from_be_bytes(take(&mut rest)?),
            cluster: u32::from_be_bytes(take(&mut rest)?),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAMP: Stamp = Stamp {
        epoch: 0x0102_0304_0506_0708,
        sequence: 0x1112_1314_1516_1718,
        fingerprint: 0x2122_2324_2526_2728_292a_2b2c_2d2e_2f30,
        subscription: 0x3132_3334_3536_3738,
        index: 0x4142_4344_4546_4748,
        received_at_ns: 0x5152_5354_5556_5758,
        cluster: 0x6162_6364,
    };

    /// Persisted: a change of these bytes makes every record already written unreadable.
    #[test]
    fn golden_bytes() {
        let hex: String = STAMP.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "01\
             0102030405060708\
             1112131415161718\
             2122232425262728292a2b2c2d2e2f30\
             3132333435363738\
             4142434445464748\
             5152535455565758\
             61626364"
        );
        assert_eq!(Stamp::decode(&STAMP.encode()), Some(STAMP));
    }

    /// Persisted: a change makes a cluster take its own records for another's.
    #[test]
    fn golden_cluster_tag() {
        assert_eq!(cluster_tag(&ClusterId("6f1c2b9e-0000-4000-8000-000000000001".to_owned())), 0xc0f8a8e0);
    }

    #[test]
    fn later_versions_stay_readable() {
        let mut bytes = STAMP.encode().to_vec();
        bytes[0] = 2;
        bytes.extend_from_slice(b"a field of version 2");
        assert_eq!(Stamp::decode(&bytes), Some(STAMP));
    }

    #[test]
    fn foreign_headers_are_not_ours() {
        let bytes = STAMP.encode();
        assert_eq!(Stamp::decode(&[]), None);
        assert_eq!(Stamp::decode(&bytes[..STAMP_BYTES - 1]), None);
        assert_eq!(Stamp::decode(&[0; STAMP_BYTES]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_not_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(stamp) = Stamp::decode(&bytes) {
                prop_assert_eq!(&stamp.encode()[1..], &bytes[1..STAMP_BYTES]);
            }
        }
    }
}
