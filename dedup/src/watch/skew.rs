//! The usual skew of the two lines: by how much the later copy of a message comes later in ordinary times.
//!
//! Each second's copies have a typical skew, which two thirds of them do not exceed; the largest of half a minute to a minute is
//! usual. Not the largest of all copies: a repeat may be taken for an older occurrence that the line never got, for as long as the
//! span, and would make whatever is behind look late. Where nothing is known at first, half of the span is taken until a second
//! of copies has said more.

/// A typical skew counts for one to two of these.
const BUCKET_MS: u64 = 30_000;
/// Copies of so long a time, and so many, have a typical skew; of a slow feed as many as came in the longer one.
const STRETCH_MS: u64 = 1_000;
const STRETCH_SAMPLES_MIN: u32 = 16;
const STRETCH_MS_MAX: u64 = 10_000;
/// Added to what is usual before a message counts as lacking: pauses of a network and of two schedulers.
const MARGIN_MS: u64 = 1_000;
/// Copies that are too late in so many more different seconds than the span has are usual. What a line delivers at once after
/// a pause is not, nor are repeats taken for what it never got.
const LATE_SECONDS_MORE: u64 = 2;
/// The good part of copies.
const LATE_ONE_IN: u64 = 4;

#[derive(Debug)]
pub(crate) struct Skew {
    span_ms: u64,
    /// The largest of the last bucket and of this one.
    last_ms: u64,
    this_ms: u64,
    began_at_ms: u64,
    stretch: Stretch,
    /// Nothing has been measured yet.
    is_guess: bool,
    late_max_ms: u64,
    late_seconds: u64,
    late_second: u64,
    doubtful: Doubtful,
    /// From what age on a message is lacking.
    late_ms: u64,
}

impl Skew {
    pub(crate) fn new(span_ms: u64) -> Self {
        Self::of(span_ms, None, 0)
    }

    /// Starts with what a newcomer's first frames say; without any, with half of the span.
    pub(crate) fn of(span_ms: u64, skew_ms: Option<u64>, now_ms: u64) -> Self {
        let mut skew = Self {
            span_ms,
            last_ms: skew_ms.unwrap_or(span_ms / 2),
            this_ms: 0,
            began_at_ms: now_ms,
            stretch: Stretch::default(),
            is_guess: skew_ms.is_none(),
            late_max_ms: 0,
            late_seconds: 0,
            late_second: 0,
            doubtful: Doubtful::default(),
            late_ms: 0,
        };
        skew.settle();
        skew
    }

    pub(crate) fn span_ms(&self) -> u64 {
        self.span_ms
    }

    /// Takes in by how much a copy came later than its twin.
    #[inline]
    pub(crate) fn sample(&mut self, skew_ms: u64, at_ms: u64) {
        if self.stretch.is_over(at_ms) {
            self.conclude(at_ms);
        }
        self.stretch.sample(skew_ms, at_ms);
        self.count(at_ms);
        if skew_ms > self.late_ms {
            self.late(skew_ms, at_ms);
        }
    }

    /// The same of a line that lacked something when the message was made: its copy may be a repeat, or the line has become slower.
    /// Then a good part of all copies is late, and that goes on.
    pub(crate) fn sample_of_lacking(&mut self, skew_ms: u64, at_ms: u64) {
        self.count(at_ms);
        if skew_ms > self.late_ms {
            self.doubtful.late(skew_ms);
        }
    }

    #[inline]
    fn count(&mut self, at_ms: u64) {
        if at_ms >= self.doubtful.second_ends_ms {
            self.conclude_second(at_ms);
        }
        self.doubtful.copies += 1;
    }

    #[cold]
    fn conclude_second(&mut self, at_ms: u64) {
        // A line that takes a repeat for an older message falls behind its own time, and goes on for longer than the span.
        if let Some(usual_ms) = self.doubtful.conclude(at_ms, self.late_seconds_max() * 2) {
            self.this_ms = self.this_ms.max(usual_ms);
            self.settle();
        }
    }

    fn late_seconds_max(&self) -> u64 {
        self.span_ms / 1_000 + LATE_SECONDS_MORE
    }

    #[cold]
    fn conclude(&mut self, at_ms: u64) {
        let typical_ms = std::mem::take(&mut self.stretch).typical_ms();
        // What is later than late must go on for longer.
        if typical_ms <= self.late_ms {
            self.this_ms = self.this_ms.max(typical_ms);
        }
        if self.is_guess || at_ms >= self.began_at_ms.saturating_add(BUCKET_MS) {
            (self.last_ms, self.this_ms, self.began_at_ms) = (self.this_ms, 0, at_ms);
            (self.late_max_ms, self.late_seconds, self.is_guess) = (0, 0, false);
        }
        self.settle();
    }

    #[cold]
    fn late(&mut self, skew_ms: u64, at_ms: u64) {
        self.late_max_ms = self.late_max_ms.max(skew_ms);
        let second = at_ms / 1_000;
        if second != self.late_second {
            self.late_second = second;
            self.late_seconds += 1;
        }
        if self.late_seconds > self.late_seconds_max() {
            self.this_ms = self.late_max_ms;
            (self.late_max_ms, self.late_seconds) = (0, 0);
            self.settle();
        }
    }

    /// Twice the usual skew and a second, but no more than the span where a quarter more than usual leaves room.
    fn settle(&mut self) {
        let usual_ms = self.usual_ms();
        let ample_ms = usual_ms.saturating_mul(2).saturating_add(MARGIN_MS).min(self.span_ms);
        let least_ms = usual_ms.saturating_add(usual_ms / 4).saturating_add(MARGIN_MS);
        self.late_ms = ample_ms.max(least_ms);
    }

    /// No copies have told anything yet.
    pub(crate) fn is_guess(&self) -> bool {
        self.is_guess
    }

    pub(crate) fn usual_ms(&self) -> u64 {
        self.last_ms.max(self.this_ms)
    }

    /// From what age on a message that has not come is lacking.
    pub(crate) fn late_ms(&self) -> u64 {
        self.late_ms
    }
}

/// Late copies that may be repeats, second by second.
#[derive(Debug, Default)]
struct Doubtful {
    second_ends_ms: u64,
    /// All copies of the second, and the doubtful late ones.
    copies: u64,
    late: u64,
    /// Seconds in a row with a good part of late ones, and the largest skew in them.
    seconds: u64,
    largest_ms: u64,
}

impl Doubtful {
    fn late(&mut self, skew_ms: u64) {
        self.late += 1;
        self.largest_ms = self.largest_ms.max(skew_ms);
    }

    /// A second is over: the skew that has become usual, once that has gone on for longer than `seconds_max`.
    fn conclude(&mut self, at_ms: u64, seconds_max: u64) -> Option<u64> {
        if self.late * LATE_ONE_IN < self.copies.max(1) {
            (self.seconds, self.largest_ms) = (0, 0);
        } else {
            self.seconds += 1;
        }
        (self.second_ends_ms, self.copies, self.late) = (at_ms - at_ms % 1_000 + 1_000, 0, 0);
        (self.seconds > seconds_max).then_some(self.largest_ms)
    }
}

/// The copies of a second or so, by their skew: powers of two, each in eight parts.
#[derive(Debug)]
struct Stretch {
    began_at_ms: u64,
    samples: u32,
    largest_ms: u64,
    counts: [u32; CLASSES],
}

const CLASSES: usize = 160;
const PARTS: u64 = 8;

impl Default for Stretch {
    fn default() -> Self {
        Self { began_at_ms: 0, samples: 0, largest_ms: 0, counts: [0; CLASSES] }
    }
}

impl Stretch {
    fn is_over(&self, at_ms: u64) -> bool {
        let lasts_ms = at_ms.saturating_sub(self.began_at_ms);
        let is_enough = lasts_ms >= STRETCH_MS && self.samples >= STRETCH_SAMPLES_MIN;
        is_enough || self.samples > 0 && lasts_ms >= STRETCH_MS_MAX
    }

    fn sample(&mut self, skew_ms: u64, at_ms: u64) {
        if self.samples == 0 {
            self.began_at_ms = at_ms;
        }
        self.samples += 1;
        self.largest_ms = self.largest_ms.max(skew_ms);
        self.counts[class(skew_ms)] += 1;
    }

    /// What two thirds of the copies do not exceed.
    fn typical_ms(&self) -> u64 {
        let mut wanted = (self.samples * 2).div_ceil(3);
        let found = self.counts.iter().position(|count| {
            wanted = wanted.saturating_sub(*count);
            wanted == 0
        });
        found.map_or(0, largest_of).min(self.largest_ms)
    }
}

fn class(skew_ms: u64) -> usize {
    let exponent = u64::from(skew_ms.max(PARTS).ilog2()) - u64::from(PARTS.ilog2());
    let class = exponent * PARTS + (skew_ms >> exponent);
    usize::try_from(class).map_or(CLASSES - 1, |class| class.min(CLASSES - 1))
}

/// The largest skew of a class, in milliseconds.
fn largest_of(class: usize) -> u64 {
    let class = class as u64;
    if class < 2 * PARTS {
        return class;
    }
    let (exponent, part) = (class / PARTS - 1, class % PARTS);
    ((PARTS + part + 1) << exponent) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_in_order_and_an_eighth_wide() {
        let mut last = 0;
        for skew_ms in 0..700_000_u64 {
            let class = class(skew_ms);
            assert!(class == last || class == last + 1, "{skew_ms}");
            assert!((skew_ms..=skew_ms + skew_ms / 8).contains(&largest_of(class)), "{skew_ms}: {}", largest_of(class));
            last = class;
        }
        assert_eq!(class(u64::MAX), CLASSES - 1);
    }

    #[test]
    fn the_largest_typical_one_of_a_minute_is_usual_and_then_forgotten() {
        let mut skew = Skew::of(10_000, Some(20), 0);
        assert_eq!((skew.usual_ms(), skew.late_ms()), (20, 1_040));
        (0..100).for_each(|n| skew.sample(if n % 4 == 0 { 1_000 } else { 10 }, n * 50));
        assert_eq!(skew.usual_ms(), 20, "some are no measure");
        (0..100).for_each(|n| skew.sample(703, 5_000 + n * 50));
        skew.sample(10, 11_000);
        assert_eq!((skew.usual_ms(), skew.late_ms()), (703, 2_406));
        (0..1_300).for_each(|n| skew.sample(10, 12_000 + n * 50));
        assert_eq!((skew.usual_ms(), skew.late_ms()), (10, 1_020));
    }

    #[test]
    fn a_guess_lasts_until_a_second_of_copies_has_come() {
        let mut skew = Skew::of(10_000, None, 0);
        (0..100).for_each(|n| skew.sample(if n % 4 == 0 { 7_000 } else { 20 }, 60_000 + n * 10));
        assert_eq!((skew.is_guess(), skew.late_ms()), (true, 10_000), "however long nothing came before");
        skew.sample(20, 61_000);
        assert_eq!((skew.is_guess(), skew.late_ms()), (false, 1_042));
        let mut slow = Skew::of(10_000, None, 0);
        slow.sample(20, 60_000);
        assert!(slow.is_guess());
        slow.sample(20, 70_000);
        assert_eq!((slow.is_guess(), slow.late_ms()), (false, 1_040));
    }

    #[test]
    fn a_skew_near_the_span_has_room() {
        assert_eq!(Skew::of(10_000, Some(4_000), 0).late_ms(), 9_000);
        assert_eq!(Skew::of(10_000, Some(6_000), 0).late_ms(), 10_000);
        assert_eq!(Skew::of(10_000, Some(9_000), 0).late_ms(), 12_250);
        assert_eq!(Skew::new(10_000).late_ms(), 10_000, "nothing is known");
    }

    #[test]
    fn repeats_of_what_a_line_lacked_are_not_usual_and_a_line_that_became_slower_is() {
        let copies = |skew: &mut Skew, from_s: u64, until_s: u64, late_one_in: u64| {
            for n in from_s * 100..until_s * 100 {
                skew.sample_of_lacking(if n % late_one_in == 0 { 6_000 } else { 10 }, n * 10);
            }
        };
        let mut skew = Skew::of(10_000, Some(10), 0);
        copies(&mut skew, 0, 60, 10);
        assert_eq!(skew.usual_ms(), 10, "a few, however long");
        copies(&mut skew, 60, 80, 2);
        copies(&mut skew, 80, 90, 1_000);
        copies(&mut skew, 90, 110, 2);
        assert_eq!(skew.usual_ms(), 10, "many, for twice the span");
        copies(&mut skew, 110, 140, 3);
        assert_eq!(skew.usual_ms(), 6_000);
    }

    #[test]
    fn a_burst_after_a_pause_is_not_usual_and_a_new_skew_is() {
        let mut skew = Skew::of(10_000, Some(10), 0);
        (0..9_000).for_each(|n| skew.sample(9_000, n));
        assert_eq!(skew.usual_ms(), 10);
        (0..140).for_each(|n| skew.sample(5_000, 20_000 + n * 100));
        assert!(skew.usual_ms() >= 5_000);
    }
}
