//! The limits of one merge and one retention, with their units, defaults and bounds.
//!
//! The caller fills them from its configuration; values outside the bounds are brought back into them.

use crate::bug::Bug;

/// Bounds what a [`Merge`](crate::Merge) and a [`Retention`](crate::Retention) remember, and how long they wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long an entry may be matched, in milliseconds of the *matching subscription's own progress*: a
    /// subscription that stalls (a broken relay) and catches up later still finds its entries. Default 10,000; at least 100.
    pub span_ms: u64,
    /// Entries the window may hold. Beyond it the oldest goes, and a subscription that still needed it has to
    /// align anew. Default 262,144 (about 30 MB); 1,024..=16,777,216.
    pub entries_max: usize,
    /// Recent frames of a subscription kept for newcomers to align with; older ones than the span are dropped down
    /// to 512. It bounds the skew between two connections that can be bridged. Default 8,192; 512..=262,144.
    pub ring_frames_max: usize,
    /// Frames of a newcomer buffered until it aligns; beyond it the oldest leaves the buffer (and stays retained at the
    /// standby until everything the owner holds is committed). Default 8,192; 512..=262,144.
    pub joining_frames_max: usize,
    /// The same limit in bytes, as the frames weigh; one frame is always allowed. It is a limit of its own: a newcomer that
    /// never aligns costs no record that waits for Kafka. A standby retains this much for it, besides what is under way.
    /// Default 8 MiB; 64 KiB..=1 GiB.
    pub joining_bytes_max: usize,
    /// By how many frames two connections may deliver in a different order. Default 16; 1..=1,024.
    pub interleave_frames_max: usize,
    /// How long a newcomer without a live reference waits for a match with the last ended subscription before it is
    /// accepted by fiat, in milliseconds. Default 300; at most 60,000.
    pub fiat_wait_ms: u64,
    /// How long a newcomer has to deliver, while the aligned subscription is silent, until that no longer counts as a reference, in milliseconds. Default 2,000. With 0 here and in `fiat_wait_ms` every newcomer is accepted as it comes,
    /// which loses messages: only the self-test of the simulation wants that.
    pub reference_silence_ms_max: u64,
    /// A mistake to make on purpose. Default none.
    #[cfg(feature = "faults")]
    pub bug: Option<Bug>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            span_ms: 10_000,
            entries_max: 262_144,
            ring_frames_max: 8_192,
            joining_frames_max: 8_192,
            joining_bytes_max: 8 * 1_024 * 1_024,
            interleave_frames_max: 16,
            fiat_wait_ms: 300,
            reference_silence_ms_max: 2_000,
            #[cfg(feature = "faults")]
            bug: None,
        }
    }
}

impl Options {
    /// Fewest frames a ring keeps, however old they are: a quiet feed has to align, too.
    pub(crate) const RING_FRAMES_MIN: usize = 512;

    /// Returns the options with every value inside its documented bounds.
    pub(crate) fn bounded(self) -> Self {
        Self {
            span_ms: self.span_ms.max(100),
            entries_max: self.entries_max.clamp(1_024, 16_777_216),
            ring_frames_max: self.ring_frames_max.clamp(Self::RING_FRAMES_MIN, 262_144),
            joining_frames_max: self.joining_frames_max.clamp(Self::RING_FRAMES_MIN, 262_144),
            joining_bytes_max: self.joining_bytes_max.clamp(65_536, 1 << 30),
            interleave_frames_max: self.interleave_frames_max.clamp(1, 1_024),
            fiat_wait_ms: self.fiat_wait_ms.min(60_000),
            ..self
        }
    }

    /// Whether this mistake is to be made.
    #[cfg(feature = "faults")]
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Whether this mistake is to be made: never.
    #[cfg(not(feature = "faults"))]
    #[inline(always)]
    pub(crate) const fn has(&self, _: Bug) -> bool {
        false
    }
}
