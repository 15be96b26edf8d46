//! The last seconds, one by one: what part of the messages a line lacks that comes through in drips, or in parts.
//!
//! Kept by the time at which a message was first delivered, so that a late copy corrects the right second.

use super::Behind;
use crate::Side;

const SECONDS: usize = 10;
const SECOND_MS: u64 = 1_000;
/// A line that lacks this share of the messages more than the other does is behind; less is a difference between the lines.
const PERCENT_MIN: u64 = 5;
/// Seconds in which it has to lack next to nothing until it has caught up.
const CLEAN_SECONDS_MIN: usize = 3;
/// What chance leaves between two lines that lose a message now and then, or say something for themselves.
const CHANCE_MESSAGES: u64 = 2;

/// When the second of a moment is over.
pub(crate) fn second_end_ms(at_ms: u64) -> u64 {
    (at_ms / SECOND_MS + 1) * SECOND_MS
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    number: u64,
    messages: u64,
    lacks: [u64; 2],
    first_lack_ms: [u64; 2],
}

#[derive(Debug, Default)]
pub(crate) struct Recent {
    seconds: [Second; SECONDS],
}

impl Recent {
    fn second(&mut self, at_ms: u64) -> &mut Second {
        let number = at_ms / SECOND_MS;
        let second = &mut self.seconds[number as usize % SECONDS];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second
    }

    /// Takes in messages of one second that no line lacks.
    pub(crate) fn agree(&mut self, messages: u64, at_ms: u64) {
        self.second(at_ms).messages += messages;
    }

    pub(crate) fn compare(&mut self, lacks: [bool; 2], at_ms: u64) {
        let second = self.second(at_ms);
        second.messages += 1;
        for side in [0, 1].into_iter().filter(|side| lacks[*side]) {
            if second.lacks[side] == 0 {
                second.first_lack_ms[side] = at_ms;
            }
            second.lacks[side] += 1;
        }
    }

    pub(crate) fn matched_late(&mut self, side: Side, created_at_ms: u64) {
        let number = created_at_ms / SECOND_MS;
        let second = &mut self.seconds[number as usize % SECONDS];
        if second.number == number {
            let lacks = &mut second.lacks[side.index()];
            *lacks = lacks.saturating_sub(1);
        }
    }

    /// The seconds up to a moment, newest first.
    fn until(&self, ripe_ms: u64) -> impl Iterator<Item = &Second> {
        let newest = ripe_ms / SECOND_MS;
        (0..SECONDS as u64)
            .filter_map(move |age| newest.checked_sub(age))
            .map(|number| (number, &self.seconds[number as usize % SECONDS]))
            .filter(|(number, second)| second.number == *number && second.messages > 0)
            .map(|(_, second)| second)
    }

    /// The part that shows that the line drips, or is partly silent.
    pub(crate) fn part(&self, side: Side, ripe_ms: u64) -> Option<Behind> {
        let (mine, other) = (side.index(), side.other().index());
        let mut sum = Second::default();
        for second in self.until(ripe_ms) {
            sum.messages += second.messages;
            sum.lacks = [sum.lacks[0] + second.lacks[0], sum.lacks[1] + second.lacks[1]];
            if second.lacks[mine] > 0 {
                sum.first_lack_ms[mine] = second.first_lack_ms[mine];
            }
        }
        let excess = sum.lacks[mine].saturating_sub(sum.lacks[other]);
        let is_no_chance = excess > CHANCE_MESSAGES + 3 * (sum.lacks[mine] + sum.lacks[other]).isqrt();
        let is_much = excess * 100 >= sum.messages * PERCENT_MIN;
        (is_no_chance && is_much).then_some(Behind { since_ms: sum.first_lack_ms[mine], lacks: excess })
    }

    /// The latest seconds in which anything came: the line lacks next to nothing of them.
    pub(crate) fn is_clean(&self, side: Side, ripe_ms: u64) -> bool {
        let (mut messages, mut lacks) = (0, [0; 2]);
        for second in self.until(ripe_ms).take(CLEAN_SECONDS_MIN) {
            messages += second.messages;
            lacks = [lacks[0] + second.lacks[0], lacks[1] + second.lacks[1]];
        }
        let excess = lacks[side.index()].saturating_sub(lacks[side.other().index()]);
        messages > 0 && (excess <= CHANCE_MESSAGES || excess * 200 < messages * PERCENT_MIN)
    }
}
