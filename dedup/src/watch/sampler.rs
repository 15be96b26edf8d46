//! Which messages are worth a look at their shape: all of a slow feed, a part of a quick one.
//!
//! A kind that is silent shows in any part of its messages, and a look costs more than a merge.

/// Looks per second, about: one thousandth of a core.
const LOOKS_PER_SECOND: u32 = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Sampler {
    second_ends_ms: u64,
    messages: u32,
    /// One in so many plus one, a power of two.
    mask: u64,
}

impl Sampler {
    /// Counts a message, and picks it by its own bits: whichever line delivers it.
    pub(crate) fn picks(&mut self, hash: u64, now_ms: u64) -> bool {
        if now_ms >= self.second_ends_ms {
            let part = (self.messages / LOOKS_PER_SECOND + 1).next_power_of_two();
            (self.mask, self.messages, self.second_ends_ms) = (u64::from(part) - 1, 0, now_ms + 1_000);
        }
        self.messages = self.messages.saturating_add(1);
        hash & self.mask == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_feed_is_looked_at_whole_and_a_quick_one_in_part() {
        let mut sampler = Sampler::default();
        let mut looks = |per_second: u64| {
            (0..3 * per_second)
                .filter(|n| sampler.picks(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7, n * 1_000 / per_second))
                .count()
        };
        assert_eq!(looks(100), 300);
        let mut sampler = Sampler::default();
        let mut looked = 0;
        for n in 0..300_000_u64 {
            looked += u64::from(sampler.picks(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7, n / 100) && n >= 100_000);
        }
        assert!((500..3_000).contains(&looked), "{looked} in two seconds");
    }
}
