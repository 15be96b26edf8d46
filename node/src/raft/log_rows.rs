//! The persisted layout of the Raft log in sled. Pure encoding and decoding; `log_store` does the IO.
//!
//! | tree | key | value |
//! |---|---|---|
//! | `log` | index (u64, big endian) ++ part (u32, big endian) | part 0: number of parts (u32, big endian) ++ JSON; others: JSON goes on |
//! | `meta` | `layout` | `1` |
//! | `meta` | `node_id` | decimal |
//! | `meta` | `vote` | JSON of the vote |
//! | `meta` | `purged` | JSON of the last purged log id |
//! | `meta` | `committed` | JSON of a log id known as committed: a hint, it may be older than the truth |
//!
//! Persisted: never change what a key or a value means; a new layout gets a new number.

use super::type_config::Entry;

pub(super) const LAYOUT: &[u8] = b"1";
pub(super) const LAYOUT_KEY: &str = "layout";
pub(super) const NODE_ID_KEY: &str = "node_id";
pub(super) const VOTE_KEY: &str = "vote";
pub(super) const PURGED_KEY: &str = "purged";
pub(super) const COMMITTED_KEY: &str = "committed";

/// Largest value in bytes. sled writes any page above 128 KiB to a file of its own that it never syncs; a page holds
/// up to 17 rows, so rows of this size keep every page far below that.
const ROW_BYTES_MAX: usize = 4096;

/// A key and its value.
pub(super) type Row = ([u8; 12], Vec<u8>);

/// Returns the key of one part of an entry.
pub(super) fn key(index: u64, part: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Returns the rows of one entry, parts in order.
pub(super) fn encode(entry: &Entry) -> Result<Vec<Row>, String> {
    let index = entry.log_id.index;
    let json = serde_json::to_vec(entry).map_err(|e| e.to_string())?;
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&json);
    let parts = u32::try_from(bytes.len().div_ceil(ROW_BYTES_MAX)).map_err(|e| e.to_string())?;
    bytes[..4].copy_from_slice(&parts.to_be_bytes());
    Ok((0..).zip(bytes.chunks(ROW_BYTES_MAX)).map(|(part, row)| (key(index, part), row.to_vec())).collect())
}

/// Collects rows in key order into entries.
#[derive(Default)]
pub(super) struct Decoder {
    index: u64,
    parts: u32,
    parts_missing: u32,
    json: Vec<u8>,
}

impl Decoder {
    /// Takes the next row; returns an entry when it is complete.
    ///
    /// # Errors
    /// A text that says what is wrong with the rows.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Entry>, String> {
        let (index, part) = split_key(key)?;
        if self.parts_missing == 0 {
            let (parts, json) = value.split_first_chunk().ok_or("a log row is too short")?;
            self.index = index;
            self.parts = u32::from_be_bytes(*parts);
            self.parts_missing = self.parts;
            self.json = json.to_vec();
        } else {
            self.json.extend_from_slice(value);
        }
        if index != self.index || self.parts_missing == 0 || part != self.parts - self.parts_missing {
            return Err(format!("part {part} of log entry {index} is out of place: rows are missing"));
        }
        self.parts_missing -= 1;
        if self.parts_missing > 0 {
            return Ok(None);
        }
        let entry: Entry =
            serde_json::from_slice(&self.json).map_err(|e| format!("log entry {index} cannot be decoded: {e}"))?;
        if entry.log_id.index != index {
            return Err(format!("the row of log entry {index} holds entry {}", entry.log_id.index));
        }
        Ok(Some(entry))
    }

    /// Says whether all rows pushed so far made whole entries.
    pub(super) fn finish(&self) -> Result<(), String> {
        if self.parts_missing == 0 {
            return Ok(());
        }
        Err(format!("log entry {} is cut off: {} of {} parts are missing", self.index, self.parts_missing, self.parts))
    }
}

fn split_key(key: &[u8]) -> Result<(u64, u32), String> {
    let whole: Option<(&[u8; 8], &[u8])> = key.split_first_chunk();
    let parts = whole.and_then(|(index, part)| Some((index, <[u8; 4]>::try_from(part).ok()?)));
    let (index, part) = parts.ok_or_else(|| format!("a log key has {} bytes instead of 12", key.len()))?;
    Ok((u64::from_be_bytes(*index), u32::from_be_bytes(part)))
}
