//! Alignment: at which place of the feed does a newcomer stand, compared with a subscription that is known?
//!
//! A pure function over two lists of fingerprints, called by the merge while a newcomer is joining. It answers with a *clean
//! cut*, a place that no message crosses, or with nothing yet; it never guesses.

use std::collections::HashMap;
use std::ops::Range;

use crate::Fingerprint;
use crate::fingerprint::Folding;

/// Unique fingerprints that must agree on an offset.
pub(crate) const VOTES_MIN: u32 = 3;
/// Clean cuts that must agree on a place.
pub(crate) const CLEAN_CUTS_MIN: u32 = 64;
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

fn ring_position(newcomer_position: usize, offset: i64) -> usize {
    usize::try_from(newcomer_position as i64 + offset).expect("positions below the overlap's start are not asked for")
}

/// The offsets (ring position minus newcomer position) with enough votes, most votes first.
fn elect_offsets(newcomer: &[Fingerprint], ring: &[Fingerprint]) -> Vec<i64> {
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
    let mut votes: HashMap<i64, u32, Folding> = HashMap::default();
    for tally in tallies.values().filter(|tally| tally.in_newcomer == 1 && tally.in_ring == 1) {
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
