//! What Twinfeed adds to a record: one header, `tf`, with a fixed binary layout. Pure; `client` writes it, `tail` reads
//! it, and consumers and audits read it too (`docs/records.md`).
//!
//! One header, not seven: librdkafka allocates per header, and 60,000 records/s pay for each allocation.

pub use twinfeed_writer::record::OutRecord;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::ids::ClusterId;

/// Key of the header that every record of Twinfeed carries. Persisted: never rename.
pub const HEADER_KEY: &str = "tf";
/// First byte of the header. A later version only appends fields, so that older readers still find theirs. Version 1 named
/// no stream and is not read any more.
const VERSION: u8 = 2;
/// Length of a version 2 header in bytes.
pub const STAMP_BYTES: usize = 82;
/// librdkafka's own bound on a record's framing (rd_kafka_msg_max_wire_size), rounded up. The head of a batch fits in too.
pub(super) const FRAMING_BYTES_MAX: usize = 128 + HEADER_KEY.len() + STAMP_BYTES;
/// `Stamp::mode` of a fingerprint of the frame's kind and whole payload, the only one so far.
pub const MODE_CONTENT: u8 = 0;

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
    /// `stream_id` of the stream: epochs, sequences and occurrences count within it, and only there.
    pub stream: u64,
    /// Position among the records made of one message, from 0; they share a sequence.
    pub sub_index: u32,
    /// The first sequence that this record accounts for: what lies between it and `sequence` was filtered on purpose and is
    /// no hole. Backwards, as a filtered message need not have a later one in its batch.
    pub accounts_from: u64,
    /// How `fingerprint` was made.
    pub mode: u8,
}

/// Returns the identity of a connector's stream, by which its records are told from those of other streams in a topic.
/// `created` is the log index that created the connector, so one that is deleted and made anew under
/// the same name is another stream, which takes nothing of its predecessor's over.
///
/// 64 bits suffice: they only tell apart streams of one cluster in one topic, and among a million of these the odds that
/// any two are equal are 3 in 100,000,000. xxh3 resists no forger; who may create connectors may write the topic anyway.
pub fn stream_id(cluster: &ClusterId, connector: &str, created: u64) -> u64 {
    // A cluster id holds no line break and the number comes last, so no two inputs read the same. Persisted in every record.
    xxh3_64(format!("{cluster}\n{connector}\n{created}").as_bytes())
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
            stream: record.stream,
            sub_index: record.sub_index,
            accounts_from: record.sequence,
            mode: MODE_CONTENT,
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
        bytes[61..69].copy_from_slice(&self.stream.to_be_bytes());
        bytes[69..73].copy_from_slice(&self.sub_index.to_be_bytes());
        bytes[73..81].copy_from_slice(&self.accounts_from.to_be_bytes());
        bytes[81] = self.mode;
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
            stream: u64::from_be_bytes(take(&mut rest)?),
            sub_index: u32::from_be_bytes(take(&mut rest)?),
            accounts_from: u64::from_be_bytes(take(&mut rest)?),
            mode: u8::from_be_bytes(take(&mut rest)?),
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
        stream: 0x7172_7374_7576_7778,
        sub_index: 0x8182_8384,
        accounts_from: 0x9192_9394_9596_9798,
        mode: 0xa1,
    };

    /// Persisted: a change of these bytes makes every record already written unreadable.
    #[test]
    fn golden_bytes() {
        let hex: String = STAMP.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "02\
             0102030405060708\
             1112131415161718\
             2122232425262728292a2b2c2d2e2f30\
             3132333435363738\
             4142434445464748\
             5152535455565758\
             61626364\
             7172737475767778\
             81828384\
             9192939495969798\
             a1"
        );
        assert_eq!(Stamp::decode(&STAMP.encode()), Some(STAMP));
    }

    /// Persisted: a change makes a cluster take its own records for another's.
    #[test]
    fn golden_cluster_tag() {
        assert_eq!(cluster_tag(&ClusterId("6f1c2b9e-0000-4000-8000-000000000001".to_owned())), 0xc0f8a8e0);
    }

    /// Persisted: a change makes a connector take its own records for another's.
    #[test]
    fn golden_stream_id() {
        let cluster = ClusterId("6f1c2b9e-0000-4000-8000-000000000001".to_owned());
        assert_eq!(format!("{:016x}", stream_id(&cluster, "trades", 17)), "2c10469c28199599");
    }

    #[test]
    fn a_connector_of_another_name_cluster_or_life_is_another_stream() {
        let cluster = |name: &str| ClusterId(name.to_owned());
        let ids = [
            stream_id(&cluster("a"), "trades", 17),
            stream_id(&cluster("b"), "trades", 17),
            stream_id(&cluster("a"), "books", 17),
            stream_id(&cluster("a"), "trades", 18),
            stream_id(&cluster("a"), "trades\n1", 7),
        ];
        assert_eq!(std::collections::BTreeSet::from(ids).len(), ids.len());
    }

    #[test]
    fn later_versions_stay_readable_and_the_first_does_not() {
        let mut bytes = STAMP.encode().to_vec();
        bytes[0] = 1;
        assert_eq!(Stamp::decode(&bytes), None, "it names no stream");
        bytes[0] = 3;
        bytes.extend_from_slice(b"a field of version 3");
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
