//! How many producers of a node may be opened at once. Hundreds that lose theirs together, as a slow Kafka makes them,
//! would keep it slow by opening together: each opening is a dozen connections and an init. `pipeline` takes a place before
//! it connects and gives it back when the producer is open; nothing here knows what an opening is.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Openings of streams whose owner is gone, at once. They are silent meanwhile, and an opening mostly waits for answers: three
/// hundred are through in five rounds of some 50 ms.
const TAKEOVERS_MAX: usize = 64;
/// Openings after an own producer was lost, at once. Its stream has just written, and the next opening meets the same Kafka.
const REOPENINGS_MAX: usize = 4;

/// Why a producer is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nobody writes this stream: its owner is gone, or it has just begun.
    Takeover,
    /// This node writes it, and lost its producer.
    Reopening,
}

/// The places of a node. Cheap to clone; made once and given to all writers. The two causes do not wait for each other.
#[derive(Debug, Clone)]
pub struct Openings {
    takeovers: Arc<Semaphore>,
    reopenings: Arc<Semaphore>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Default for Openings {
    fn default() -> Self {
        Self::new(TAKEOVERS_MAX, REOPENINGS_MAX)
    }
}

impl Openings {
    /// Returns places for so many openings at once.
    pub fn new(takeovers_max: usize, reopenings_max: usize) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        Self { takeovers: places(takeovers_max), reopenings: places(reopenings_max) }
    }

    /// Waits for a place; first come, first served among openings of the same cause. Hold it until the producer is open, and
    /// not while the tail is read: that may wait for transactions which only another opening ends.
    pub async fn acquire(&self, cause: Cause) -> Place {
        let places = match cause {
            Cause::Takeover => &self.takeovers,
            Cause::Reopening => &self.reopenings,
        };
        let permit = Arc::clone(places).acquire_owned().await;
        Place { _permit: permit.expect("nobody closes the semaphore") }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, poll};

    use super::*;

    #[tokio::test]
    async fn what_comes_beyond_the_places_waits_for_one() {
        let openings = Openings::new(2, 1);
        let first = openings.acquire(Cause::Reopening).await;
        let second = openings.clone();
        let mut waiting = Box::pin(second.acquire(Cause::Reopening));
        assert!(poll!(&mut waiting).is_pending());
        drop(first);
        assert!(waiting.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_takeover_never_waits_for_reopenings() {
        let openings = Openings::new(1, 2);
        let (_one, _two) = (openings.acquire(Cause::Reopening).await, openings.acquire(Cause::Reopening).await);
        let mut third = Box::pin(openings.acquire(Cause::Reopening));
        assert!(poll!(&mut third).is_pending());
        assert!(openings.acquire(Cause::Takeover).now_or_never().is_some());
    }

    #[tokio::test]
    async fn one_that_gives_up_waiting_holds_no_place() {
        let openings = Openings::new(1, 1);
        let first = openings.acquire(Cause::Takeover).await;
        let mut given_up = Box::pin(openings.acquire(Cause::Takeover));
        assert!(poll!(&mut given_up).is_pending());
        drop(given_up);
        drop(first);
        assert!(openings.acquire(Cause::Takeover).now_or_never().is_some());
    }
}
