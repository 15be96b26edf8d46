//! The usual skew of the two lines: by how much the later copy of a message comes later, at most, in ordinary times.
//!
//! A maximum that is forgotten after half a minute to a minute without its like. Copies that come later than that are no
//! measure of it, unless they go on coming. Where nothing is known at first, half of the span is taken until some copies
//! have said more.

/// A maximum is kept for one to two of these.
const BUCKET_MS: u64 = 30_000;
const BUCKET_SAMPLES_MIN: u32 = 32;
/// Added to what is usual before a message counts as lacking: pauses of a network and of two schedulers.
const MARGIN_MS: u64 = 1_000;
/// Copies that are later than usual in so many different seconds of a bucket are usual. What a line delivers at once after
/// a pause is not.
const LATE_SECONDS_MIN: u32 = 6;

#[derive(Debug)]
pub(crate) struct Skew {
    span_ms: u64,
    /// The largest of the last bucket and of this one.
    last_ms: u64,
    this_ms: u64,
    began_at_ms: u64,
    samples: u32,
    /// Nothing has been measured yet.
    is_guess: bool,
    late_max_ms: u64,
    late_seconds: u32,
    late_second: u64,
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
            samples: 0,
            is_guess: skew_ms.is_none(),
            late_max_ms: 0,
            late_seconds: 0,
            late_second: 0,
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
        if self.is_guess && self.samples == 0 {
            self.began_at_ms = at_ms;
        }
        self.samples = self.samples.saturating_add(1);
        if skew_ms > self.this_ms {
            self.raise(skew_ms, at_ms);
        }
        let (are_enough, lasts_ms) = (self.samples >= BUCKET_SAMPLES_MIN, at_ms.saturating_sub(self.began_at_ms));
        // A few copies of a slow feed say more than a guess, too.
        let is_known = self.is_guess && (are_enough || lasts_ms >= self.span_ms);
        if is_known || are_enough && lasts_ms >= BUCKET_MS {
            (self.last_ms, self.this_ms, self.began_at_ms, self.samples) = (self.this_ms, 0, at_ms, 0);
            self.is_guess = false;
            (self.late_max_ms, self.late_seconds) = (0, 0);
            self.settle();
        }
    }

    fn raise(&mut self, skew_ms: u64, at_ms: u64) {
        if skew_ms <= self.late_ms {
            self.this_ms = skew_ms;
            self.settle();
            return;
        }
        self.late_max_ms = self.late_max_ms.max(skew_ms);
        let second = at_ms / 1_000;
        if second != self.late_second {
            self.late_second = second;
            self.late_seconds += 1;
        }
        if self.late_seconds >= LATE_SECONDS_MIN {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_a_minute_is_usual_and_then_forgotten() {
        let mut skew = Skew::of(10_000, Some(20), 0);
        assert_eq!((skew.usual_ms(), skew.late_ms()), (20, 1_040));
        (0..100).for_each(|n| skew.sample(if n == 50 { 700 } else { 10 }, n * 100));
        assert_eq!((skew.usual_ms(), skew.late_ms()), (700, 2_400));
        (0..1_300).for_each(|n| skew.sample(10, 10_000 + n * 100));
        assert_eq!((skew.usual_ms(), skew.late_ms()), (10, 1_020));
    }

    #[test]
    fn a_guess_lasts_until_copies_have_come() {
        let mut skew = Skew::of(10_000, None, 0);
        (0..31).for_each(|n| skew.sample(20, 60_000 + n));
        assert_eq!((skew.is_guess(), skew.late_ms()), (true, 10_000), "however long nothing came before");
        skew.sample(20, 60_031);
        assert_eq!((skew.is_guess(), skew.late_ms()), (false, 1_040));
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
    fn a_burst_after_a_pause_is_not_usual_and_a_new_skew_is() {
        let mut skew = Skew::of(10_000, Some(10), 0);
        (0..1_000).for_each(|n| skew.sample(9_000, n));
        assert_eq!(skew.usual_ms(), 10);
        (0..100).for_each(|n| skew.sample(5_000, 20_000 + n * 100));
        assert!(skew.usual_ms() >= 5_000);
    }
}
