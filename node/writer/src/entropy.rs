//! The writer's own randomness: seeded by whoever makes it, so that a simulation repeats every run.

/// SplitMix64: passes through every value once, which is all that names and jitter need.
#[derive(Debug, Clone)]
pub(crate) struct Entropy(u64);

impl Entropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A name that nothing else has; never 0, which stands for none on the wire.
    pub(crate) fn name(&mut self) -> u64 {
        self.next() | 1
    }

    /// Uniform in 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
