//! Alignment: at which place of the feed does a newcomer stand, compared with a subscription that is known?
//!
//! A pure function over two lists of fingerprints, called by the merge while a newcomer is joining. It answers with a *clean
//! cut*, a place that no message crosses, or with nothing yet; it never guesses.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::Fingerprint;
use crate::fingerprint::Folding;

/// Unique fingerprints that must agree on an offset.
pub(crate) const VOTES_MIN: u32 = 3;
/// Clean cuts that must agree on a place.
pub(crate) const CLEAN_CUTS_MIN: u32 = 64;
/// An overlap equal position by position is believed from so many frames on, if the caller says that it lasts long enough.
pub(crate) const EQUAL_FRAMES_MIN: usize = 8;
/// Messages that only one of the two has: so many at least, and one in so many, or they would not keep the offset from holding.
const LACKING_MIN: usize = 4;
const LACKING_ONE_IN: usize = 64;
/// One of the two leaves messages out if it has at most this part of what the other has alone. Two that each have messages of
/// their own carry different bytes.
const LOPSIDED: usize = 4;
/// Offsets looked at: a true one is among the first, and the others only cost time.
const OFFSETS_MAX: usize = 3;

/// `ring[..ring]` and `newcomer[..newcomer]` end at the same place in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) ring: usize,
    pub(crate) newcomer: usize,
}

/// How often a fingerprint occurs on either side, and where it was last.
#[derive(Debug, Default)]
struct Tally {
    in_newcomer: u32,
    in_ring: u32,
    position_in_newcomer: usize,
    position_in_ring: usize,
}

/// How often the running sum had one value, and after which newcomer frame it had it last.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    cuts: u32,
    last: usize,
}

/// Finds the latest clean cut, or `None` if there is not enough to be sure.
///
/// The offset comes from a vote of the fingerprints that are unique on both sides. Then a running sum of fingerprints, newcomer minus
/// ring, is taken along it: two positions with the same sum have the same multiset of frames between them on both sides, so
/// where nothing crosses, the sum returns to one value. The most frequent value marks the clean cuts, however the two
/// connections interleave; in-order feeds are clean everywhere. An overlap that is equal position by position may be believed
/// with fewer frames: `is_enough` is asked with its positions in the newcomer.
pub(crate) fn find_cut(
    newcomer: &[Fingerprint],
    ring: &[Fingerprint],
    is_enough: impl Fn(Range<usize>) -> bool,
) -> Option<Cut> {
    let mut best: Option<(u32, Cut)> = None;
    for offset in elect_offsets(newcomer, ring) {
        let start = usize::try_from(-offset).unwrap_or(0);
        let end = newcomer.len().min(usize::try_from(ring.len() as i64 - offset).unwrap_or(0));
        let Some((first, second)) = rank_levels(newcomer, ring, offset, start..end) else { continue };
        let is_equal = second.cuts == 0;
        let is_sure = first.cuts >= CLEAN_CUTS_MIN && u64::from(first.cuts) * 2 >= u64::from(second.cuts) * 3;
        let is_believed =
            is_sure || (is_equal && newcomer[start] == ring[ring_position(start, offset)] && is_enough(start..end));
        if is_believed && best.is_none_or(|(cuts, _)| first.cuts > cuts) {
            best = Some((first.cuts, Cut { ring: ring_position(first.last, offset), newcomer: first.last }));
        }
    }
    best.map(|(_, cut)| cut)
}

/// What two lists have in common where one of them leaves messages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LackingCut {
    pub(crate) cut: Cut,
    /// The first message in common, by its positions.
    pub(crate) first: Cut,
    /// How many messages the newcomer leaves out, and how many the ring does: one of the two by far fewer.
    pub(crate) leaves_out: [usize; 2],
}

/// Finds a cut where one of the two leaves out messages that the other has, such as a channel of several. No offset holds for
/// longer than until the next of these, so the messages that are unique on both sides are compared alone: they must be cut as
/// cleanly. What one side alone has by then may be lacking, or only late on the other, at most by `interleave` messages: that is not
/// decided here, and has to stay open.
///
/// Lines that each have messages of their own are not cut: they carry different bytes, and the union of both would have most
/// messages twice.
pub(crate) fn find_cut_of_lacking(
    newcomer: &[Fingerprint],
    ring: &[Fingerprint],
    interleave: usize,
    is_enough: impl Fn(Range<usize>) -> bool,
) -> Option<LackingCut> {
    let of_newcomer = common(newcomer, ring);
    let mut of_ring = of_newcomer.clone();
    of_ring.sort_unstable_by_key(|anchor| anchor.ring);
    let pick = |anchors: &[Cut]| -> Vec<Fingerprint> { anchors.iter().map(|anchor| ring[anchor.ring]).collect() };
    let whole = |range: Range<usize>| of_newcomer[range.start].newcomer..of_newcomer[range.end - 1].newcomer + 1;
    let found = find_cut(&pick(&of_newcomer), &pick(&of_ring), |range| {
        range.len() >= EQUAL_FRAMES_MIN && is_enough(whole(range))
    })?;
    let last_of_newcomer = of_newcomer.get(found.newcomer.checked_sub(1)?)?;
    let last_of_ring = of_ring.get(found.ring.checked_sub(1)?)?;
    let first = Cut { newcomer: of_newcomer.first()?.newcomer, ring: of_ring.first()?.ring };
    let cut = Cut { newcomer: last_of_newcomer.newcomer + 1, ring: last_of_ring.ring + 1 };
    // Nearer to the ends one side may have what is on its way to the other.
    let mine = alone(newcomer, first.newcomer + interleave..cut.newcomer.saturating_sub(interleave), ring);
    let theirs = alone(ring, first.ring + interleave..cut.ring.saturating_sub(interleave), newcomer);
    is_lopsided(mine, theirs, of_newcomer.len()).then_some(LackingCut { cut, first, leaves_out: [theirs, mine] })
}

/// How many of these the other does not have at all.
fn alone(list: &[Fingerprint], range: Range<usize>, other: &[Fingerprint]) -> usize {
    let known: HashSet<Fingerprint, Folding> = other.iter().copied().collect();
    list.get(range).into_iter().flatten().filter(|fingerprint| !known.contains(fingerprint)).count()
}

/// Whether one side has a good part of messages that the other leaves out, and hardly the other way round.
fn is_lopsided(mine: usize, theirs: usize, common: usize) -> bool {
    let (more, fewer) = (mine.max(theirs), mine.min(theirs));
    more >= LACKING_MIN && more * LACKING_ONE_IN >= common && fewer * LOPSIDED <= more
}

/// The positions of what is unique on both sides, in the newcomer's order.
fn common(newcomer: &[Fingerprint], ring: &[Fingerprint]) -> Vec<Cut> {
    let unique = tallies(newcomer, ring).into_values().filter(|tally| tally.in_newcomer == 1 && tally.in_ring == 1);
    let mut anchors: Vec<Cut> =
        unique.map(|tally| Cut { newcomer: tally.position_in_newcomer, ring: tally.position_in_ring }).collect();
    anchors.sort_unstable_by_key(|anchor| anchor.newcomer);
    anchors
}

fn ring_position(newcomer_position: usize, offset: i64) -> usize {
    usize::try_from(newcomer_position as i64 + offset).expect("positions below the overlap's start are not asked for")
}

fn tallies(newcomer: &[Fingerprint], ring: &[Fingerprint]) -> HashMap<Fingerprint, Tally, Folding> {
    let mut tallies: HashMap<Fingerprint, Tally, Folding> =
        HashMap::with_capacity_and_hasher(newcomer.len(), Folding::default());
    for (position, fingerprint) in newcomer.iter().enumerate() {
        let tally = tallies.entry(*fingerprint).or_default();
        tally.in_newcomer += 1;
        tally.position_in_newcomer = position;
    }
    for (position, fingerprint) in ring.iter().enumerate() {
        if let Some(tally) = tallies.get_mut(fingerprint) {
            tally.in_ring += 1;
            tally.position_in_ring = position;
        }
    }
    tallies
}

/// The offsets (ring position minus newcomer position) with enough votes, most votes first.
fn elect_offsets(newcomer: &[Fingerprint], ring: &[Fingerprint]) -> Vec<i64> {
    let mut votes: HashMap<i64, u32, Folding> = HashMap::default();
    for tally in tallies(newcomer, ring).values().filter(|tally| tally.in_newcomer == 1 && tally.in_ring == 1) {
        *votes.entry(tally.position_in_ring as i64 - tally.position_in_newcomer as i64).or_default() += 1;
    }
    let mut offsets: Vec<(u32, i64)> =
        votes.into_iter().filter(|(_, count)| *count >= VOTES_MIN).map(|(offset, count)| (count, offset)).collect();
    // The offset as second key makes the order independent of the map's.
    offsets.sort_unstable_by(|a, b| b.cmp(a));
    offsets.truncate(OFFSETS_MAX);
    offsets.into_iter().map(|(_, offset)| offset).collect()
}

/// The two most frequent values of the running sum along an offset.
fn rank_levels(
    newcomer: &[Fingerprint],
    ring: &[Fingerprint],
    offset: i64,
    overlap: Range<usize>,
) -> Option<(Level, Level)> {
    let mut levels: HashMap<u128, Level, Folding> = HashMap::default();
    let mut sum = 0_u128;
    for position in overlap {
        let past = ring[ring_position(position, offset)];
        sum = sum.wrapping_add(newcomer[position].as_u128()).wrapping_sub(past.as_u128());
        let level = levels.entry(sum).or_default();
        level.cuts += 1;
        level.last = position + 1;
    }
    let (mut first, mut second) = (Level::default(), Level::default());
    for level in levels.into_values() {
        if (level.cuts, level.last) > (first.cuts, first.last) {
            second = first;
            first = level;
        } else if (level.cuts, level.last) > (second.cuts, second.last) {
            second = level;
        }
    }
    (first.cuts > 0).then_some((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(numbers: impl IntoIterator<Item = u128>) -> Vec<Fingerprint> {
        // Sums of small numbers would meet by chance; fingerprints are hashes.
        numbers
            .into_iter()
            .map(|n| Fingerprint::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)))
            .collect()
    }

    /// Numbers with a repeat of one of `hot` payloads at every place but each fourth.
    fn repetitive(hot: u128, from: u128, until: u128) -> Vec<Fingerprint> {
        feed((from..until).map(|n| if n % 4 == 0 { 1_000 + n } else { (n / 4 * 7 + n) % hot }))
    }

    #[test]
    fn in_order_feeds_are_cut_at_the_end_of_the_overlap() {
        let cut = find_cut(&feed(150..300), &feed(100..250), |_| false);
        assert_eq!(cut, Some(Cut { ring: 150, newcomer: 100 }));
    }

    #[test]
    fn repeats_do_not_move_the_cut() {
        let cut = find_cut(&repetitive(5, 150, 400), &repetitive(5, 100, 350), |_| false);
        assert_eq!(cut, Some(Cut { ring: 250, newcomer: 200 }));
    }

    /// Each tenth frame comes five places later on the newcomer: a cut between its two places would lose it or repeat it.
    #[test]
    fn a_cut_is_never_crossed() {
        let mut late: Vec<u128> = (0..400).collect();
        for position in (3..390).step_by(10) {
            late[position..=position + 5].rotate_left(1);
        }
        let cut =
            find_cut(&feed(late.iter().copied()), &feed(0..397), |_| false).expect("half of the places are clean");
        let before: std::collections::BTreeSet<u128> = late[..cut.newcomer].iter().copied().collect();
        assert!(before.into_iter().eq(0..cut.ring as u128), "{cut:?}");
        assert!(cut.ring > 380, "{cut:?}");
    }

    /// One in three is of a channel that one of the two does not have; one in five is a repeat.
    fn channels(numbers: Range<u128>, of_all: bool) -> Vec<Fingerprint> {
        let numbers = numbers.filter(|n| of_all || n % 3 != 1);
        feed(numbers.map(|n| if n % 5 == 0 { n % 4 } else { 1_000 + n }))
    }

    #[test]
    fn a_channel_that_one_leaves_out_does_not_hide_the_place() {
        let enough = |_: Range<usize>| false;
        let (whole, lacking) = (channels(150..453, true), channels(100..450, false));
        assert_eq!(find_cut(&whole, &lacking, enough), None, "no offset holds");
        let found = find_cut_of_lacking(&whole, &lacking, 16, enough).expect("most messages are common");
        // Number 449 is the last that both have.
        assert_eq!(found.cut, Cut { ring: lacking.len(), newcomer: 300 });
        let (lacking, whole) = (channels(150..453, false), channels(100..450, true));
        let found = find_cut_of_lacking(&lacking, &whole, 16, enough).expect("the other way round");
        assert_eq!(whole[found.cut.ring - 1], lacking[found.cut.newcomer - 1]);
        assert_eq!(found.cut.ring, 350);
    }

    /// Half of the messages bear a number of the connection: aligned, all these would be in the topic twice.
    #[test]
    fn two_that_differ_are_no_one_that_lacks() {
        let marked = |mark: u128| feed((0..600).map(|n| if n % 2 == 0 { n } else { n + mark }));
        assert_eq!(find_cut_of_lacking(&marked(10_000), &marked(20_000), 16, |_| true), None);
        let same = feed(0..600);
        let ahead = feed(0..616);
        assert_eq!(find_cut_of_lacking(&ahead, &same, 16, |_| true), None, "on its way");
        assert_eq!(
            find_cut_of_lacking(&same, &same, 16, |_| true),
            None,
            "nothing is lacking: this is for the other way"
        );
    }

    #[test]
    fn nothing_is_believed_without_enough() {
        let is_enough = |overlap: Range<usize>| overlap.len() >= 10;
        assert_eq!(find_cut(&feed(10..19), &feed(0..19), is_enough), None, "nine equal frames");
        assert_eq!(find_cut(&feed(10..20), &feed(0..20), is_enough), Some(Cut { ring: 20, newcomer: 10 }));
        let mut unequal = feed(10..20);
        unequal.swap(3, 4);
        assert_eq!(find_cut(&unequal, &feed(0..20), is_enough), None, "not equal position by position");
        assert_eq!(find_cut(&feed([1; 500]), &feed([1; 500]), |_| true), None, "nothing to vote with");
        assert_eq!(find_cut(&[], &[], |_| true), None);
    }
}
