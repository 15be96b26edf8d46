//! What the tool feed sends as its n-th message: numbered payloads with a known share of exact repeats, or a capture
//! of a real feed. Pure and the same for feed and verifier: from the pattern alone, the verifier knows every payload
//! that must be in the topic, and how often.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Largest capture read, in bytes.
const CAPTURE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Channels are kept as the bits of a word.
const CHANNELS_MAX: u32 = 64;

/// Stands before the number of the connection in a marked message, always within its first bytes.
const CONNECTION_KEY: &[u8] = b",\"connection\":";
/// Longer than number, seed and channel can be.
const HEAD_BYTES_MAX: usize = 96;

/// A pattern by its parameters: what command lines and the ledger carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct PatternArgs {
    /// Seed of everything random in the pattern.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Payload size in bytes; a payload too small for its number is as large as it must be.
    #[arg(long, default_value_t = 200)]
    pub size: usize,
    /// Share of messages that repeat one of the hot payloads byte by byte, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub repeats: f64,
    /// Number of hot payloads, at least 1.
    #[arg(long, default_value_t = 20)]
    pub hot: u32,
    /// Send this capture (lines of `unix_time<TAB>payload`) over and over instead.
    #[arg(long)]
    pub replay: Option<PathBuf>,
    /// With --replay: numbered messages before each pass of the capture. They give a capture without any unique
    /// payload something to align by.
    #[arg(long, default_value_t = 200)]
    pub bridge: u64,
    /// Spread the messages over so many channels, at most 64; with more than one, each message names its own.
    #[arg(long, default_value_t = 1)]
    #[serde(default = "one_channel")]
    pub channels: u32,
    /// Put the number of its connection into each message: no two connections carry the same bytes. Without repeats.
    #[arg(long)]
    #[serde(default)]
    pub mark_connections: bool,
}

impl Default for PatternArgs {
    /// As the command line has it.
    fn default() -> Self {
        let (seed, size, repeats, hot, bridge) = (1, 200, 0.0, 20, 200);
        Self { seed, size, repeats, hot, replay: None, bridge, channels: one_channel(), mark_connections: false }
    }
}

/// Of feeds that know of no channels.
const fn one_channel() -> u32 {
    1
}

/// Why a pattern cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    #[error("--{name} must be {bounds}")]
    OutOfBounds { name: &'static str, bounds: &'static str },
    #[error("cannot read the capture {path}")]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the capture {path} holds no line of the form unix_time<TAB>payload")]
    Empty { path: String },
}

/// What a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The payload of message n and of no other.
    Unique(u64),
    /// One of the payloads that several messages share.
    Shared(usize),
}

/// A deterministic sequence of payloads.
#[derive(Debug, Clone)]
pub struct Pattern {
    args: PatternArgs,
    filler: Vec<u8>,
    /// Payloads that several messages may have.
    shared: Vec<Bytes>,
    shared_index: HashMap<Bytes, usize>,
    /// Line by line, the index into `shared`.
    capture: Vec<usize>,
}

impl Pattern {
    /// Makes the pattern; reads the capture, if there is one.
    ///
    /// # Errors
    /// A parameter out of bounds, or an unusable capture.
    pub fn new(args: PatternArgs) -> Result<Self, PatternError> {
        if !(0.0..=1.0).contains(&args.repeats) {
            return Err(PatternError::OutOfBounds { name: "repeats", bounds: "between 0 and 1" });
        }
        if args.hot == 0 || args.hot > 1_000_000 {
            return Err(PatternError::OutOfBounds { name: "hot", bounds: "between 1 and 1000000" });
        }
        if args.size > 16 * 1024 * 1024 {
            return Err(PatternError::OutOfBounds { name: "size", bounds: "at most 16777216" });
        }
        if !(1..=CHANNELS_MAX).contains(&args.channels) {
            return Err(PatternError::OutOfBounds { name: "channels", bounds: "between 1 and 64" });
        }
        if args.mark_connections && (args.repeats > 0.0 || args.replay.is_some()) {
            let bounds = "left out where messages repeat: a marked message is nobody's repeat";
            return Err(PatternError::OutOfBounds { name: "mark-connections", bounds });
        }
        let filler = filler(args.seed, args.size);
        let mut pattern = Self { filler, shared: Vec::new(), shared_index: HashMap::new(), capture: Vec::new(), args };
        match pattern.args.replay.clone() {
            Some(path) => {
                for line in read_capture(&path)? {
                    let index = pattern.share(line);
                    pattern.capture.push(index);
                }
            }
            None => {
                for hot in 0..pattern.args.hot {
                    let payload = pattern.padded("hot", u64::from(hot), None);
                    pattern.share(payload);
                }
            }
        }
        Ok(pattern)
    }

    pub fn args(&self) -> &PatternArgs {
        &self.args
    }

    /// Number of payloads that several messages may share.
    pub fn shared_count(&self) -> usize {
        self.shared.len()
    }

    /// What message `n` is.
    pub fn identity(&self, n: u64) -> Identity {
        if self.capture.is_empty() {
            let draw = mix(self.args.seed ^ mix(n));
            // 53 bits make a uniform number in 0..1.
            let repeats = ((draw >> 11) as f64) < self.args.repeats * (1_u64 << 53) as f64;
            let hot = (mix(draw) % u64::from(self.args.hot)) as usize;
            return if repeats { Identity::Shared(hot) } else { Identity::Unique(n) };
        }
        let pass = self.args.bridge + self.capture.len() as u64;
        match (n % pass).checked_sub(self.args.bridge) {
            None => Identity::Unique(n),
            Some(line) => Identity::Shared(self.capture[line as usize]),
        }
    }

    /// The channel of message `n`.
    pub fn channel(&self, n: u64) -> u32 {
        match self.identity(n) {
            Identity::Unique(n) => self.channel_of(n),
            Identity::Shared(index) => self.channel_of(index as u64),
        }
    }

    /// The payload of message `n`, as connection 0 carries it.
    pub fn payload(&self, n: u64) -> Bytes {
        self.payload_on(n, 0)
    }

    /// The payload of message `n` on a connection.
    pub fn payload_on(&self, n: u64, connection: u64) -> Bytes {
        match self.identity(n) {
            Identity::Unique(n) => self.padded("n", n, self.args.mark_connections.then_some(connection)),
            Identity::Shared(index) => self.shared[index].clone(),
        }
    }

    /// What a payload is; None if the pattern never sends these exact bytes.
    pub fn recognise(&self, payload: &[u8]) -> Option<Identity> {
        if let Some(index) = self.shared_index.get(payload) {
            return Some(Identity::Shared(*index));
        }
        let n = number_after(payload.strip_prefix(b"{\"n\":")?)?;
        let connection = self.connection(payload);
        let is_marked = connection.is_some() == self.args.mark_connections;
        (is_marked && self.identity(n) == Identity::Unique(n) && self.padded("n", n, connection) == payload)
            .then_some(Identity::Unique(n))
    }

    /// The connection that carried a payload; None where messages are not marked.
    pub fn connection(&self, payload: &[u8]) -> Option<u64> {
        if !self.args.mark_connections {
            return None;
        }
        let at = payload.windows(CONNECTION_KEY.len()).take(HEAD_BYTES_MAX).position(|key| key == CONNECTION_KEY)?;
        number_after(&payload[at + CONNECTION_KEY.len()..])
    }

    fn channel_of(&self, number: u64) -> u32 {
        (number % u64::from(self.args.channels)) as u32
    }

    fn share(&mut self, payload: Bytes) -> usize {
        let next = self.shared.len();
        let index = *self.shared_index.entry(payload.clone()).or_insert(next);
        if index == next {
            self.shared.push(payload);
        }
        index
    }

    /// `{"n":123,"seed":1,"pad":"…"}`, filled up to the wanted size; `channel` and `connection` where there are any.
    fn padded(&self, key: &str, number: u64, connection: Option<u64>) -> Bytes {
        use std::io::Write as _;
        let mut payload = Vec::with_capacity(self.args.size.max(64));
        let all = "a vector takes all bytes";
        write!(payload, "{{\"{key}\":{number},\"seed\":{}", self.args.seed).expect(all);
        if self.args.channels > 1 {
            write!(payload, ",\"channel\":{}", self.channel_of(number)).expect(all);
        }
        if let Some(connection) = connection {
            payload.extend_from_slice(CONNECTION_KEY);
            write!(payload, "{connection}").expect(all);
        }
        payload.extend_from_slice(b",\"pad\":\"");
        let room = self.args.size.saturating_sub(payload.len() + 2);
        payload.extend_from_slice(&self.filler[..room]);
        payload.extend_from_slice(b"\"}");
        Bytes::from(payload)
    }
}

/// The number at the beginning of some bytes.
fn number_after(bytes: &[u8]) -> Option<u64> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()
}

/// A bijection of 64-bit numbers that scatters neighbours (the finaliser of SplitMix64).
pub(super) const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Letters that a compressor cannot fold away, so that sizes on the wire are what they seem.
fn filler(seed: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|at| b'a' + (mix(seed ^ mix(at)) % 26) as u8).collect()
}

fn read_capture(path: &Path) -> Result<Vec<Bytes>, PatternError> {
    let shown = path.display().to_string();
    let unreadable = |source| PatternError::Unreadable { path: shown.clone(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > CAPTURE_BYTES_MAX {
        return Err(unreadable(std::io::Error::other(format!("larger than {CAPTURE_BYTES_MAX} bytes"))));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let payloads = text.lines().filter_map(|line| line.split_once('\t'));
    let lines: Vec<Bytes> = payloads.map(|(_, payload)| Bytes::copy_from_slice(payload.as_bytes())).collect();
    if lines.is_empty() { Err(PatternError::Empty { path: shown }) } else { Ok(lines) }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn args() -> PatternArgs {
        PatternArgs { seed: 7, repeats: 0.3, bridge: 2, ..PatternArgs::default() }
    }

    #[test]
    fn every_payload_is_recognised_as_what_it_is() {
        let pattern = Pattern::new(args()).expect("valid");
        for n in (0..5_000).chain(u64::MAX - 5..=u64::MAX) {
            let payload = pattern.payload(n);
            assert_eq!(payload.len(), 200);
            assert_eq!(pattern.recognise(&payload), Some(pattern.identity(n)));
        }
        let mut changed = pattern.payload(0).to_vec();
        *changed.last_mut().expect("not empty") ^= 1;
        assert_eq!(pattern.recognise(&changed), None);
        assert_eq!(pattern.recognise(b"{\"n\":"), None);
        assert_eq!(pattern.recognise(b""), None);
    }

    #[test]
    fn channels_share_the_messages_and_each_message_names_its_own() {
        let pattern = Pattern::new(PatternArgs { channels: 3, ..args() }).expect("valid");
        for n in 0..1_000 {
            let (payload, channel) = (pattern.payload(n), pattern.channel(n));
            let text = std::str::from_utf8(&payload).expect("text");
            assert!(text.contains(&format!(",\"channel\":{channel},")) && channel < 3, "{text}");
            assert_eq!(pattern.recognise(&payload), Some(pattern.identity(n)));
        }
        let one = Pattern::new(args()).expect("valid");
        assert!(!one.payload(1).windows(7).any(|part| part == b"channel") && one.channel(5) == 0);
    }

    #[test]
    fn marked_messages_are_the_same_message_with_other_bytes_on_each_connection() {
        let marked = PatternArgs { mark_connections: true, repeats: 0.0, channels: 2, ..args() };
        let pattern = Pattern::new(marked.clone()).expect("valid");
        let (one, two) = (pattern.payload_on(9, 3), pattern.payload_on(9, u64::MAX));
        assert!(one != two && one.len() == 200);
        for (payload, connection) in [(&one, 3), (&two, u64::MAX)] {
            assert_eq!(pattern.recognise(payload), Some(Identity::Unique(9)));
            assert_eq!(pattern.connection(payload), Some(connection));
        }
        let plain = Pattern::new(PatternArgs { repeats: 0.0, channels: 2, ..args() }).expect("valid");
        assert_eq!((plain.recognise(&one), pattern.recognise(&plain.payload(9))), (None, None));
        assert!(Pattern::new(PatternArgs { repeats: 0.1, ..marked }).is_err());
    }

    #[test]
    fn the_share_of_repeats_is_what_was_asked_for() {
        for repeats in [0.0, 0.3, 0.95, 1.0] {
            let pattern = Pattern::new(PatternArgs { repeats, ..args() }).expect("valid");
            let shared = (0..20_000).filter(|n| matches!(pattern.identity(*n), Identity::Shared(_))).count();
            assert!((shared as f64 / 20_000.0 - repeats).abs() < 0.02, "{shared} for {repeats}");
        }
    }

    #[test]
    fn another_seed_is_another_pattern() {
        let (one, two) = (Pattern::new(args()), Pattern::new(PatternArgs { seed: 8, ..args() }));
        let (one, two) = (one.expect("valid"), two.expect("valid"));
        assert!((0..100).all(|n| one.payload(n) != two.payload(n)));
        assert!((0..100).all(|n| two.recognise(&one.payload(n)).is_none()));
    }

    #[test]
    fn tiny_sizes_still_carry_the_number() {
        let pattern = Pattern::new(PatternArgs { size: 0, repeats: 0.0, ..args() }).expect("valid");
        assert_eq!(pattern.payload(3), "{\"n\":3,\"seed\":7,\"pad\":\"\"}");
        assert_eq!(pattern.recognise(&pattern.payload(3)), Some(Identity::Unique(3)));
    }

    #[test]
    fn a_capture_is_sent_line_by_line_between_bridges() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "1.0\tA\n2.0\tB\tb\n3.0\tA\nno tab\n").expect("written");
        let pattern = Pattern::new(PatternArgs { replay: Some(file.path().into()), ..args() }).expect("valid");
        let sent: Vec<_> = (0..10).map(|n| pattern.identity(n)).collect();
        use Identity::{Shared, Unique};
        let pass = [Unique(0), Unique(1), Shared(0), Shared(1), Shared(0)];
        assert_eq!(sent[..5], pass);
        assert_eq!(sent[5..7], [Unique(5), Unique(6)]);
        assert_eq!(sent[7..], pass[2..]);
        assert_eq!(pattern.payload(3), "B\tb");
        assert_eq!(pattern.recognise(b"A"), Some(Shared(0)));
    }

    #[test]
    fn impossible_parameters_are_refused() {
        for bad in [
            PatternArgs { repeats: 1.1, ..args() },
            PatternArgs { hot: 0, ..args() },
            PatternArgs { channels: 65, ..args() },
        ] {
            assert!(matches!(Pattern::new(bad), Err(PatternError::OutOfBounds { .. })));
        }
        let missing = PatternArgs { replay: Some("/nowhere".into()), ..args() };
        assert!(matches!(Pattern::new(missing), Err(PatternError::Unreadable { .. })));
    }
}
