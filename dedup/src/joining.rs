//! A newcomer: the buffered frames of a subscription that is not aligned yet, and when to look again.
//!
//! The merge fills it and drains it on alignment. Attempts are spaced in proportion to their cost, so that a frame costs the same
//! however long the alignment takes.

use std::collections::VecDeque;
use std::ops::Range;

use crate::alignment::{EQUAL_FRAMES_MIN, VOTES_MIN};
use crate::{Fingerprint, Frame, Options};

/// First attempt after so many frames, then at least so many between two.
const ATTEMPT_FRAMES_FIRST: u64 = 8;
const ATTEMPT_FRAMES_STEP: u64 = 4;
/// However many frames it has received, it is looked at so often: its twin may have begun to deliver the same a moment ago.
const ATTEMPT_MS_MAX: u64 = 5_000;
/// An overlap equal position by position is believed if it lasted this long: longer than connections ever interleave
/// differently.
const EQUAL_LASTS_MS_MIN: u64 = 1_000;
/// Frames of the ring that are compared: this many, or four times the buffer if that is more.
const COMPARED_FRAMES_MIN: usize = 400;

#[derive(Debug)]
pub(crate) struct Joining<P> {
    frames: VecDeque<(u64, Frame<P>)>,
    bytes: usize,
    frames_max: usize,
    bytes_max: usize,
    received: u64,
    attempt_at: u64,
    attempted_ms: u64,
    /// Since when all attempts have found that one of the two leaves messages out.
    pub(crate) lacking_since_ms: Option<u64>,
    /// Since when no live reference has been there to align with.
    pub(crate) alone_since_ms: Option<u64>,
    /// Since when it has been waiting for its place.
    pub(crate) since_ms: u64,
    /// It was aligned and fell too far behind: what it delivers first is old, until its side is known to be caught up.
    pub(crate) lags: bool,
}

impl<P> Joining<P> {
    pub(crate) fn new(options: &Options, since_ms: u64) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            frames_max: options.joining_frames_max,
            bytes_max: options.joining_bytes_max,
            received: 0,
            attempt_at: ATTEMPT_FRAMES_FIRST,
            attempted_ms: since_ms,
            lacking_since_ms: None,
            alone_since_ms: None,
            since_ms,
            lags: false,
        }
    }

    /// For a subscription that fell too far behind: what comes first is old.
    pub(crate) fn lagging(self) -> Self {
        Self { lags: true, ..self }
    }

    /// Whether a frame has room without another one leaving. The first always has.
    pub(crate) fn has_room(&self, frame_bytes: usize) -> bool {
        self.frames.is_empty()
            || (self.frames.len() < self.frames_max && self.bytes.saturating_add(frame_bytes) <= self.bytes_max)
    }

    pub(crate) fn push(&mut self, frame: Frame<P>, now_ms: u64) {
        self.bytes += frame.bytes;
        self.frames.push_back((now_ms, frame));
        self.received += 1;
    }

    /// Lets the oldest frame go; returns its index.
    pub(crate) fn evict(&mut self) -> Option<u64> {
        let (_, frame) = self.frames.pop_front()?;
        self.bytes -= frame.bytes;
        Some(frame.index)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest frames, oldest of them first.
    pub(crate) fn newest(&self, frames: usize) -> impl Iterator<Item = &Frame<P>> {
        self.frames.range(self.frames.len().saturating_sub(frames)..).map(|(_, frame)| frame)
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// When the oldest buffered frame arrived.
    pub(crate) fn first_ms(&self) -> Option<u64> {
        self.frames.front().map(|(arrived_ms, _)| *arrived_ms)
    }

    /// When the frame at a position of the buffer arrived.
    pub(crate) fn arrived_ms(&self, position: usize) -> u64 {
        self.frames[position].0
    }

    /// How long it has been delivering since a moment; `None` without a frame since then. A backlog that arrives at once
    /// lasts for no time.
    pub(crate) fn lasts_ms_since(&self, moment_ms: u64) -> Option<u64> {
        let first = self.frames.partition_point(|(arrived_ms, _)| *arrived_ms <= moment_ms);
        Some(self.frames.back()?.0.saturating_sub(self.frames.get(first)?.0))
    }

    pub(crate) fn is_attempt_due(&self, now_ms: u64) -> bool {
        self.received >= self.attempt_at || now_ms >= self.attempted_ms.saturating_add(ATTEMPT_MS_MAX)
    }

    /// Plans the next attempt: a quarter more frames, or, once that takes longer, some seconds.
    pub(crate) fn plan_attempt(&mut self, now_ms: u64) {
        self.attempted_ms = now_ms;
        self.attempt_at = self.received + ATTEMPT_FRAMES_STEP.max(self.received / 4);
    }

    /// Frames of the ring's end that an attempt compares with.
    pub(crate) fn compared_frames(&self) -> usize {
        COMPARED_FRAMES_MIN.max(4 * self.frames.len())
    }

    pub(crate) fn fingerprints(&self) -> Vec<Fingerprint> {
        self.frames.iter().map(|(_, frame)| frame.fingerprint).collect()
    }

    /// Whether an equal overlap lasted long enough to be believed early: what lets a slow feed align.
    pub(crate) fn is_long_enough(&self, overlap: &Range<usize>) -> bool {
        let lasts_ms = self.frames[overlap.end - 1].0.saturating_sub(self.frames[overlap.start].0);
        overlap.len() >= EQUAL_FRAMES_MIN && lasts_ms >= EQUAL_LASTS_MS_MIN
    }

    /// Whether an equal overlap with a subscription that will not deliver any more may be believed: it must reach the
    /// newcomer's first frame.
    pub(crate) fn is_last_resort(overlap: &Range<usize>) -> bool {
        overlap.start == 0 && overlap.len() > VOTES_MIN as usize
    }

    /// Hands out the buffered frames, oldest first.
    pub(crate) fn into_frames(self) -> VecDeque<(u64, Frame<P>)> {
        self.frames
    }
}
