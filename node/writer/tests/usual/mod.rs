//! What the tests of a single writer take for usual.

use twinfeed_dedup::Options;
use twinfeed_writer::Settings;

/// Two lines, one partition, a commit every ten milliseconds.
pub(crate) fn settings() -> Settings {
    Settings {
        connector: "c".to_owned(),
        topic: "t".to_owned(),
        feeds: 2,
        stream: 1,
        node: "n1".to_owned(),
        revision: 1,
        merge: Options::default(),
        commit_interval_us: 10_000,
        behind_ms_max: 5_000,
        buffer_bytes_max: 1 << 20,
    }
}
