//! What differs between two lines that should carry the same messages: pairs of messages that are most alike, the places at
//! which they differ, and what would make them equal.
//!
//! Pure, and for people only: nothing that is written rests on it. `lines` chooses the messages; the admin API shows the result.

mod leaves;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use leaves::Leaves;

/// Pairs that are shown, and bytes of each message.
const PAIRS_MAX: usize = 5;
const SHOWN_BYTES_MAX: usize = 400;
/// Places that are named, bytes of each, and how many of them the advice repeats.
const POINTERS_MAX: usize = 32;
const POINTER_BYTES_MAX: usize = 100;
const POINTERS_ADVISED: usize = 3;
/// Messages looked at: each of a few is held against many, as the other line may be ahead or late.
pub(crate) const FEW_MAX: usize = 8;
pub(crate) const MANY_MAX: usize = 256;
/// Bytes of one message, and of all of one line, that are looked at: a comparison is made between two batches, and takes a
/// millisecond or two.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024;
const LINE_BYTES_MAX: usize = 128 * 1024;
/// Texts are of one kind from this part of equal bytes at their ends on, in percent.
const ALIKE_PERCENT_MIN: usize = 50;

/// How the messages that are compared were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// The newest of two lines that could not be matched: the same message may be among those of either.
    Newest,
    /// Those that one line alone has delivered, of two that are matched.
    Alone,
}

/// What differs between two lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Comparison {
    /// Whether there is something that differs.
    pub differs: bool,
    /// JSON pointers at which the messages of every pair differ.
    pub pointers: Vec<String>,
    /// Messages of the owner's and of the standby's line, most alike first; one of them is empty where nothing is alike.
    pub pairs: Vec<(String, String)>,
    /// What was found, and what to do about it.
    pub advice: String,
}

impl Comparison {
    /// What was found, without the messages that show it.
    pub fn without_samples(&self) -> Self {
        Self { pairs: Vec::new(), ..self.clone() }
    }
}

/// Two messages that are most alike, by their places in the two lists.
#[derive(Debug, Clone)]
struct Pair {
    few: usize,
    many: usize,
    /// Where they differ; empty for what is not JSON, too.
    differing: Vec<String>,
    /// Equal places, in percent of all; of texts, equal bytes.
    alike_percent: usize,
    /// Both have something that no other message has: these are two copies of one message.
    is_same_message: bool,
}

/// One message, as far as it is looked at.
struct Sample<'a> {
    bytes: &'a [u8],
    leaves: Option<Leaves<'a>>,
}

/// Compares messages of the owner's line with messages of the standby's, oldest first.
pub fn compare(own: &[Bytes], standby: &[Bytes], chosen: Chosen) -> Comparison {
    let swapped = standby.len() < own.len();
    let (few, many) = if swapped { (standby, own) } else { (own, standby) };
    let (few, many) = (samples(few, FEW_MAX), samples(many, MANY_MAX));
    if many.is_empty() {
        return agreeing("neither line has delivered anything that could be compared");
    }
    if few.is_empty() {
        let whose = if swapped { "owner's" } else { "standby's" };
        return one_sided(whose, &many, swapped);
    }
    let mut pairs = pairs(&few, &many);
    let same = pairs.iter().filter(|pair| few[pair.few].bytes == many[pair.many].bytes).count();
    if chosen == Chosen::Newest && same > 0 && same == pairs.len() && same * 2 > few.len() {
        return agreeing(
            "the newest messages of the one line are the same on the other, only their places are not matched yet: a feed that \
             repeats itself takes long, one without any unique message is never matched, and a line that leaves messages out is \
             only found to do so once it is",
        );
    }
    pairs.retain(|pair| few[pair.few].bytes != many[pair.many].bytes);
    pairs.sort_by_key(|pair| (!pair.is_same_message, std::cmp::Reverse(pair.alike_percent)));
    // Copies of one message say what differs; what only looks like them says less.
    if pairs.first().is_some_and(|pair| pair.is_same_message) {
        pairs.retain(|pair| pair.is_same_message);
    }
    let (text, pointers) = match pairs.first() {
        first if chosen == Chosen::Newest && same > 0 && first.is_none_or(|pair| !pair.is_same_message) => {
            (partly(same, few.len()), Vec::new())
        }
        Some(first) => {
            let is_json = few[first.few].leaves.is_some() && many[first.many].leaves.is_some();
            let pointers = if is_json { common(&pairs) } else { Vec::new() };
            (advice(&pairs, &pointers, (is_json, chosen)), pointers)
        }
        None => (strangers(chosen).to_owned(), Vec::new()),
    };
    let shown = |pair: &Pair| oriented(show(few[pair.few].bytes), show(many[pair.many].bytes), swapped);
    let mut shown: Vec<_> = pairs.iter().take(PAIRS_MAX).map(shown).collect();
    if shown.is_empty() {
        shown.extend(few.iter().zip(&many).take(2).map(|(a, b)| oriented(show(a.bytes), show(b.bytes), swapped)));
    }
    let pointers = pointers.iter().take(POINTERS_MAX).map(|pointer| printable(pointer, POINTER_BYTES_MAX)).collect();
    Comparison { differs: true, pointers, pairs: shown, advice: text }
}

fn agreeing(advice: &str) -> Comparison {
    Comparison { advice: advice.to_owned(), ..Comparison::default() }
}

fn one_sided(whose: &str, many: &[Sample<'_>], owners: bool) -> Comparison {
    let pair = |sample: &Sample<'_>| {
        let text = show(sample.bytes);
        if owners { (text, String::new()) } else { (String::new(), text) }
    };
    let advice = format!(
        "only the {whose} line has delivered messages that the other lacks: the other one leaves some out (conflation, \
         losses, a subscription that lacks a channel), or these are said to this connection alone; the topic holds all of \
         them"
    );
    Comparison {
        differs: true,
        pointers: Vec::new(),
        pairs: many.iter().rev().take(PAIRS_MAX).map(pair).collect(),
        advice,
    }
}

fn partly(same: usize, of: usize) -> String {
    format!(
        "of the {of} messages that were held against the other line's {same} are the same there: one line leaves some out \
         (conflation, losses, a subscription that lacks a channel), has not delivered them yet, or gets messages for itself \
         alone; do both URLs carry the same channels?"
    )
}

fn strangers(chosen: Chosen) -> &'static str {
    match chosen {
        Chosen::Newest => {
            "the two URLs seem to carry different feeds: no message of one line is built like one of the other; compare \
             websocket.url, twinfeed.websocket.secondary.url and what each server makes of the subscription messages"
        }
        Chosen::Alone => {
            "each line delivers messages of its own that have nothing like them on the other: do both URLs carry the same \
             channels? The topic holds all of them"
        }
    }
}

fn advice(pairs: &[Pair], pointers: &[String], (is_json, chosen): (bool, Chosen)) -> String {
    let places = places(pointers);
    // Fields that are left out of the comparison are what the coming merge mode is for: until then no key does it.
    let no_key = "no key makes Twinfeed ignore that yet";
    match chosen {
        _ if !is_json => format!(
            "the lines carry messages of one kind that differ as the samples show, and are not JSON: {no_key}; ask the feed \
             for messages that are equal on every connection, or run one line: twinfeed.redundancy=single"
        ),
        _ if pairs.iter().all(|pair| pair.differing.is_empty()) => format!(
            "the lines carry the same values, written differently (order of members, spaces): {no_key}; ask the feed for one \
             encoding, use one URL for both lines, or run one line: twinfeed.redundancy=single"
        ),
        _ if pointers.is_empty() => {
            "the lines carry messages of one kind, and no place differs in all of them: do both URLs \
                                     carry the same feed, neither conflated?"
                .to_owned()
        }
        Chosen::Newest if pairs[0].is_same_message => format!(
            "the lines carry the same messages but for {places}: {no_key}; ask the feed for messages without it, or run one \
             line: twinfeed.redundancy=single"
        ),
        Chosen::Newest => format!(
            "the lines carry messages of one kind that differ at {places}, and none that is surely the same: do both URLs \
             carry the same feed? If each connection gets its own {places}: {no_key}; ask the feed for messages without it, \
             or run one line: twinfeed.redundancy=single"
        ),
        Chosen::Alone => format!(
            "each line has messages of its own, which differ at {places}: heartbeats and answers that each connection gets \
             for itself do no harm, though those of both are in the topic; anything else means that the lines do not carry \
             the same (conflation?), and {no_key}"
        ),
    }
}

fn places(pointers: &[String]) -> String {
    let shown: Vec<_> =
        pointers.iter().take(POINTERS_ADVISED).map(|pointer| printable(pointer, POINTER_BYTES_MAX)).collect();
    match pointers.len().saturating_sub(POINTERS_ADVISED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The newest messages within the bounds, oldest first.
fn samples(payloads: &[Bytes], messages_max: usize) -> Vec<Sample<'_>> {
    let mut bytes = 0;
    let newest =
        payloads.iter().rev().take(messages_max).map(|payload| &payload[..payload.len().min(MESSAGE_BYTES_MAX)]);
    let within = newest.take_while(|payload| {
        bytes += payload.len();
        bytes <= LINE_BYTES_MAX
    });
    let mut samples: Vec<_> = within.map(|bytes| Sample { bytes, leaves: Leaves::of(bytes) }).collect();
    samples.reverse();
    samples
}

/// Finds for each of the few the one of the many that is most like it; each is in one pair only.
fn pairs(few: &[Sample<'_>], many: &[Sample<'_>]) -> Vec<Pair> {
    let mut is_taken = vec![false; many.len()];
    let mut pairs = Vec::new();
    let lines = [few, many].map(|line| line.iter().filter_map(|sample| sample.leaves.as_ref()).collect::<Vec<_>>());
    for (i, sample) in few.iter().enumerate() {
        let free = many.iter().enumerate().filter(|(j, _)| !is_taken[*j]);
        let alike = free.filter_map(|(j, other)| Some((alike_percent(sample, other)?, j)));
        // Of equally good ones the first, so that what is in order stays so.
        let Some((alike_percent, j)) = alike.max_by_key(|(percent, j)| (*percent, std::cmp::Reverse(*j))) else {
            continue;
        };
        is_taken[j] = true;
        let (differing, is_same_message) = match (&sample.leaves, &many[j].leaves) {
            (Some(a), Some(b)) => {
                let lines = [lines[0].as_slice(), lines[1].as_slice()];
                (a.differing(b), a.shares_what_is_unique(b, lines))
            }
            _ => (Vec::new(), false),
        };
        pairs.push(Pair { few: i, many: j, differing, alike_percent, is_same_message });
    }
    pairs
}

/// How much of two messages is equal; `None` for two that are not of one kind.
fn alike_percent(a: &Sample<'_>, b: &Sample<'_>) -> Option<usize> {
    match (&a.leaves, &b.leaves) {
        (Some(a), Some(b)) => a.is_like(b).then(|| a.equal_percent(b)),
        (None, None) => Some(equal_ends_percent(a.bytes, b.bytes)).filter(|percent| *percent >= ALIKE_PERCENT_MIN),
        _ => None,
    }
}

fn equal_ends_percent(a: &[u8], b: &[u8]) -> usize {
    let (shorter, longer) = (a.len().min(b.len()), a.len().max(b.len()).max(1));
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let end = a.iter().rev().zip(b.iter().rev()).take(shorter - start).take_while(|(a, b)| a == b).count();
    (start + end) * 100 / longer
}

/// Where all pairs differ.
fn common(pairs: &[Pair]) -> Vec<String> {
    let differing: Vec<_> =
        pairs.iter().map(|pair| &pair.differing).filter(|differing| !differing.is_empty()).collect();
    let Some((first, rest)) = differing.split_first() else { return Vec::new() };
    first.iter().filter(|pointer| rest.iter().all(|others| others.contains(pointer))).cloned().collect()
}

fn oriented(few: String, many: String, swapped: bool) -> (String, String) {
    if swapped { (many, few) } else { (few, many) }
}

/// A message as it may stand in a terminal: what is no text in hexadecimal.
fn show(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    match std::str::from_utf8(bytes) {
        Ok(text) => printable(text, SHOWN_BYTES_MAX),
        // A character that the bound has cut is no reason to take a text for something else.
        Err(error) if error.error_len().is_none() => {
            printable(&String::from_utf8_lossy(&bytes[..error.valid_up_to()]), SHOWN_BYTES_MAX)
        }
        Err(_) => {
            let hex: String = head.iter().take(SHOWN_BYTES_MAX / 2 - 1).map(|byte| format!("{byte:02x}")).collect();
            format!("0x{hex}{}", if bytes.len() * 2 + 2 > SHOWN_BYTES_MAX { "…" } else { "" })
        }
    }
}

fn printable(text: &str, bytes_max: usize) -> String {
    let mut shown: String =
        text[..text.floor_char_boundary(bytes_max)].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(messages: impl IntoIterator<Item = String>) -> Vec<Bytes> {
        messages.into_iter().map(Bytes::from).collect()
    }

    fn trades(connection: u64, numbers: std::ops::Range<u64>) -> Vec<Bytes> {
        line(numbers.map(|n| {
            format!(
                r#"{{"connection":{connection},"data":{{"price":"{}.5","seq":{n},"pair":"BTC-USD"}}}}"#,
                100 + n % 7
            )
        }))
    }

    #[test]
    fn a_number_of_each_connection_is_named_however_far_the_lines_are_apart() {
        let found = compare(&trades(7, 100..116), &trades(8, 0..200), Chosen::Newest);
        assert!(found.differs);
        assert_eq!(found.pointers, ["/connection"]);
        assert_eq!(found.pairs.len(), PAIRS_MAX);
        for (own, standby) in &found.pairs {
            assert_eq!(own.replace(r#""connection":7"#, r#""connection":8"#), *standby);
        }
        assert!(found.advice.starts_with("the lines carry the same messages but for /connection: no key"), "{found:?}");
        assert!(!found.advice.contains("dedup.fields"), "a key that does nothing is no advice");
        let reversed = compare(&trades(8, 0..200), &trades(7, 100..116), Chosen::Newest);
        assert_eq!(reversed.pointers, ["/connection"]);
        assert!(reversed.pairs[0].0.contains(r#""connection":8"#), "the owner's stands first");
    }

    #[test]
    fn lines_too_far_apart_are_not_said_to_carry_the_same_messages() {
        let found = compare(&trades(7, 1_000..1_016), &trades(8, 0..200), Chosen::Newest);
        assert!(found.differs && found.pointers.contains(&"/connection".to_owned()), "{found:?}");
        assert!(found.advice.contains("none that is surely the same"), "an equal price is no proof: {found:?}");
    }

    #[test]
    fn of_a_line_that_lacks_a_channel_some_messages_are_surely_the_same() {
        let message = |n: u64| format!(r#"{{"channel":"c{}","n":{n}}}"#, n % 3);
        let lacking = line((0..24).filter(|n| n % 3 > 0).map(message));
        let found = compare(&line((16..24).map(message)), &lacking, Chosen::Newest);
        assert!(found.differs && found.pointers.is_empty(), "{found:?}");
        assert!(found.advice.contains("are the same there: one line leaves some out"), "{found:?}");
    }

    #[test]
    fn a_number_that_each_connection_counts_by_itself_is_named_too() {
        let of = |from: u64| {
            let message = |n: u64| format!(r#"{{"n":{},"id":{n},"text":"the same"}}"#, from + n);
            line((0..16).map(message))
        };
        assert_eq!(compare(&of(1_000), &of(50), Chosen::Newest).pointers, ["/n"]);
    }

    #[test]
    fn pointers_are_escaped_and_reach_into_lists() {
        let of = |connection: u64| {
            let message = |n: u64| format!(r#"[{{"a/b~c":{{"who":"{connection}"}},"n":{n}}},[{n}]]"#);
            line((0..8).map(message))
        };
        assert_eq!(compare(&of(1), &of(2), Chosen::Newest).pointers, ["/0/a~1b~0c/who"]);
    }

    #[test]
    fn digits_beyond_what_a_float_holds_make_a_difference() {
        let of = |last: char| line((0..4).map(|n| format!(r#"{{"n":{n},"id":12345678901234567890123{last}}}"#)));
        assert_eq!(compare(&of('1'), &of('2'), Chosen::Newest).pointers, ["/id"]);
    }

    #[test]
    fn the_same_values_written_otherwise_are_called_that() {
        let own = line((0..4).map(|n| format!(r#"{{"a":{n},"b":2}}"#)));
        let standby = line((0..4).map(|n| format!(r#"{{"b": 2, "a": {n}}}"#)));
        let found = compare(&own, &standby, Chosen::Newest);
        assert!(found.differs && found.pointers.is_empty(), "{found:?}");
        assert!(found.advice.contains("written differently"), "{found:?}");
    }

    #[test]
    fn messages_of_another_build_come_from_another_feed() {
        let book = line((0..4).map(|n| format!(r#"{{"bids":[[{n},1]],"asks":[]}}"#)));
        let found = compare(&trades(7, 0..4), &book, Chosen::Newest);
        assert!(found.differs && found.pointers.is_empty() && found.pairs.len() == 2, "{found:?}");
        assert!(found.advice.starts_with("the two URLs seem to carry different feeds"), "{found:?}");
    }

    #[test]
    fn lines_that_agree_are_not_said_to_differ() {
        let found = compare(&trades(7, 3..11), &trades(7, 0..16), Chosen::Newest);
        assert_eq!((found.differs, found.pairs.len(), found.pointers.len()), (false, 0, 0), "{found:?}");
        assert!(found.advice.contains("the same on the other"));
        assert!(!compare(&[], &[], Chosen::Alone).differs);
    }

    #[test]
    fn what_one_line_alone_has_is_shown_on_its_side() {
        let found = compare(&[], &trades(8, 0..3), Chosen::Alone);
        assert!(found.differs && found.advice.starts_with("only the standby's line"), "{found:?}");
        assert!(found.pairs.iter().all(|(own, standby)| own.is_empty() && standby.contains("BTC-USD")));
        let found = compare(&trades(7, 0..3), &[], Chosen::Alone);
        assert!(found.advice.starts_with("only the owner's line"), "{found:?}");
        assert!(found.pairs.iter().all(|(own, standby)| standby.is_empty() && own.contains("BTC-USD")));
    }

    #[test]
    fn heartbeats_of_each_connection_do_no_harm() {
        let beats = |who: &str| line((0..4).map(|n| format!(r#"{{"type":"heartbeat","who":"{who}","at":{}}}"#, n * 7)));
        let found = compare(&beats("a"), &beats("b"), Chosen::Alone);
        assert_eq!(found.pointers, ["/who"]);
        assert!(found.advice.contains("do no harm"), "{found:?}");
    }

    #[test]
    fn texts_are_paired_by_their_ends() {
        let of = |who: &str| line((0..4).map(|n| format!("T|{who}|BTC-USD|{n}|100.5|buy")));
        let found = compare(&of("17"), &of("18"), Chosen::Newest);
        assert!(found.differs && found.pointers.is_empty(), "{found:?}");
        assert!(found.advice.contains("not JSON"), "{found:?}");
        assert_eq!(found.pairs[0], ("T|17|BTC-USD|0|100.5|buy".into(), "T|18|BTC-USD|0|100.5|buy".into()));
    }

    #[test]
    fn whatever_comes_the_result_is_small_and_printable() {
        let deep = |who: u64| format!("{}{who}{}", "[".repeat(5_000), "]".repeat(5_000));
        let wide = |who: u64| {
            let members: Vec<_> = (0..3_000).map(|n| format!(r#""{}\n{n}":{who}"#, "k".repeat(200))).collect();
            format!("{{{}}}", members.join(","))
        };
        let narrow = |who: u64| {
            let members: Vec<_> = (0..500).map(|n| format!(r#""\u001b{n}":{who}"#)).collect();
            format!("{{{}}}", members.join(","))
        };
        let binary = |who: u64| "\u{1b}[31m\r\n".repeat(100) + &who.to_string();
        let mut own: Vec<Bytes> = vec![vec![0xff; 1_000_000].into(), Bytes::new()];
        let mut standby: Vec<Bytes> = vec![vec![0xfe; 2_000_000].into(), Bytes::from_static(b"\xff\xfe")];
        for make in [&deep as &dyn Fn(u64) -> String, &wide, &narrow, &binary] {
            own.extend(line((0..600).map(|_| make(1))));
            standby.extend(line((0..600).map(|_| make(2))));
            for (own, standby) in [(&own, &standby), (&standby, &own)] {
                let found = compare(own, standby, Chosen::Newest);
                let texts = found.pairs.iter().flat_map(|(a, b)| [a, b]);
                assert!(found.pairs.len() <= PAIRS_MAX && found.pointers.len() <= POINTERS_MAX);
                assert!(texts.clone().all(|text| text.len() <= SHOWN_BYTES_MAX + 3));
                assert!(texts.chain(&found.pointers).all(|text| !text.chars().any(char::is_control)));
                assert!(found.pointers.iter().all(|pointer| pointer.len() <= POINTER_BYTES_MAX + 3));
                assert!(!found.advice.chars().any(char::is_control) && found.advice.len() < 1_000);
            }
        }
    }
}
