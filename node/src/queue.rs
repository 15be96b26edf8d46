//! A channel bounded in items and in bytes: what waits in it is the limit that was given, whatever the sizes. Rooms use
//! it where somebody else's data wait for an actor. An item that alone is larger than a bound passes when nothing else
//! waits: a queue that refused it would stand still for ever. It never drops anything.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::{Semaphore, TryAcquireError, mpsc};
use tokio_stream::Stream;

/// The receiver is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody receives any more")]
pub struct Closed;

/// Why an item was not sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room for it now; here it is again.
    Full(T),
    /// The receiver is gone.
    Closed,
}

/// What an item takes of the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    pub items: usize,
    pub bytes: usize,
}

#[derive(Debug)]
struct Room {
    items: Semaphore,
    bytes: Semaphore,
    items_max: u32,
    bytes_max: u32,
    bytes_waiting: AtomicUsize,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    /// Taken of `Room::items` and `Room::bytes`.
    permits: (u32, u32),
    bytes: usize,
}

/// The sending side.
#[derive(Debug)]
pub struct Sender<T> {
    entries: mpsc::UnboundedSender<Entry<T>>,
    room: Arc<Room>,
}

/// The receiving side. Dropping it ends every wait for room.
#[derive(Debug)]
pub struct Receiver<T> {
    entries: mpsc::UnboundedReceiver<Entry<T>>,
    room: Arc<Room>,
}

/// A queue of at most so many items and bytes; each bound is at least 1 and at most 4 Gi.
pub fn channel<T>(items_max: usize, bytes_max: usize) -> (Sender<T>, Receiver<T>) {
    let (items_max, bytes_max) = (permits(items_max.max(1), u32::MAX), permits(bytes_max.max(1), u32::MAX));
    let room = Arc::new(Room {
        items: Semaphore::new(items_max as usize),
        bytes: Semaphore::new(bytes_max as usize),
        items_max,
        bytes_max,
        bytes_waiting: AtomicUsize::new(0),
    });
    // Unbounded by itself: whoever sends holds permits, which come back when the item is received.
    let (sender, receiver) = mpsc::unbounded_channel();
    (Sender { entries: sender, room: Arc::clone(&room) }, Receiver { entries: receiver, room })
}

fn permits(wanted: usize, max: u32) -> u32 {
    u32::try_from(wanted).unwrap_or(max).min(max)
}

impl<T> Sender<T> {
    /// Waits for room, in the order of the calls, and sends. A call that is cancelled has sent nothing.
    ///
    /// # Errors
    /// The receiver is gone.
    pub async fn send(&self, value: T, weight: Weight) -> Result<(), Closed> {
        let room = &self.room;
        let (items, bytes) = room.permits(weight);
        // Items first for everybody: whoever waits for bytes waits for items that are received without its help.
        let held_items = room.items.acquire_many(items).await.map_err(|_| Closed)?;
        let held_bytes = room.bytes.acquire_many(bytes).await.map_err(|_| Closed)?;
        held_items.forget();
        held_bytes.forget();
        self.enter(value, weight)
    }

    /// Sends if there is room now.
    ///
    /// # Errors
    /// There is none, or the receiver is gone.
    pub fn try_send(&self, value: T, weight: Weight) -> Result<(), TrySendError<T>> {
        let room = &self.room;
        let (items, bytes) = room.permits(weight);
        let held = room.items.try_acquire_many(items).and_then(|held| Ok((held, room.bytes.try_acquire_many(bytes)?)));
        match held {
            Ok((held_items, held_bytes)) => {
                held_items.forget();
                held_bytes.forget();
                self.enter(value, weight).map_err(|Closed| TrySendError::Closed)
            }
            Err(TryAcquireError::NoPermits) => Err(TrySendError::Full(value)),
            Err(TryAcquireError::Closed) => Err(TrySendError::Closed),
        }
    }

    /// Waits until there is room, for whoever is the only one to send.
    ///
    /// # Errors
    /// The receiver is gone.
    pub async fn room(&self, weight: Weight) -> Result<(), Closed> {
        let (items, bytes) = self.room.permits(weight);
        let _items = self.room.items.acquire_many(items).await.map_err(|_| Closed)?;
        self.room.bytes.acquire_many(bytes).await.map(drop).map_err(|_| Closed)
    }

    pub fn is_closed(&self) -> bool {
        self.entries.is_closed()
    }

    /// Waits until the receiver is gone.
    pub async fn closed(&self) {
        self.entries.closed().await;
    }

    /// Its permits are taken.
    fn enter(&self, value: T, weight: Weight) -> Result<(), Closed> {
        self.room.bytes_waiting.fetch_add(weight.bytes, Ordering::Relaxed);
        let entry = Entry { value, permits: self.room.permits(weight), bytes: weight.bytes };
        self.entries.send(entry).map_err(|_| Closed)
    }
}

impl Room {
    /// What an item takes of `items` and `bytes`: all where it is larger.
    fn permits(&self, weight: Weight) -> (u32, u32) {
        (permits(weight.items, self.items_max), permits(weight.bytes, self.bytes_max))
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), room: Arc::clone(&self.room) }
    }
}

impl<T> Receiver<T> {
    /// The next item; None when every sender is gone and nothing waits. Cancel safe.
    pub async fn recv(&mut self) -> Option<T> {
        let entry = self.entries.recv().await?;
        Some(self.taken(entry))
    }

    /// The next item if one waits.
    pub fn try_recv(&mut self) -> Option<T> {
        let entry = self.entries.try_recv().ok()?;
        Some(self.taken(entry))
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Items that wait now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that wait now.
    pub fn bytes(&self) -> usize {
        self.room.bytes_waiting.load(Ordering::Relaxed)
    }

    fn taken(&self, entry: Entry<T>) -> T {
        let (items, bytes) = entry.permits;
        self.room.bytes_waiting.fetch_sub(entry.bytes, Ordering::Relaxed);
        self.room.items.add_permits(items as usize);
        self.room.bytes.add_permits(bytes as usize);
        entry.value
    }
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        this.entries.poll_recv(context).map(|entry| Some(this.taken(entry?)))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.room.items.close();
        self.room.bytes.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt};

    const fn weight(items: usize, bytes: usize) -> Weight {
        Weight { items, bytes }
    }

    #[tokio::test]
    async fn bytes_bound_it_and_come_back_when_taken() {
        let (sender, mut receiver) = channel(100, 10);
        assert_eq!(sender.send(1, weight(1, 6)).now_or_never(), Some(Ok(())));
        assert_eq!(sender.send(2, weight(1, 5)).now_or_never(), None, "eleven bytes do not fit");
        assert_eq!(sender.send(2, weight(1, 4)).now_or_never(), Some(Ok(())), "the cancelled one holds nothing");
        assert_eq!((receiver.bytes(), receiver.is_empty()), (10, false));
        assert_eq!(receiver.recv().await, Some(1));
        assert_eq!(sender.send(3, weight(1, 6)).now_or_never(), Some(Ok(())));
        assert_eq!((receiver.try_recv(), receiver.try_recv(), receiver.try_recv()), (Some(2), Some(3), None));
        assert_eq!((receiver.bytes(), receiver.is_empty()), (0, true));
    }

    #[tokio::test]
    async fn items_bound_it_too() {
        let (sender, mut receiver) = channel(3, 1000);
        assert_eq!(sender.send("a", weight(2, 1)).now_or_never(), Some(Ok(())));
        assert_eq!(sender.send("b", weight(2, 1)).now_or_never(), None);
        assert_eq!(receiver.try_recv(), Some("a"));
        assert_eq!(sender.send("b", weight(2, 1)).now_or_never(), Some(Ok(())));
    }

    #[tokio::test]
    async fn an_item_larger_than_the_bounds_passes_alone() {
        let (sender, mut receiver) = channel(2, 10);
        assert_eq!(sender.send(1, weight(1, 1)).now_or_never(), Some(Ok(())));
        assert_eq!(sender.send(2, weight(9, 99)).now_or_never(), None);
        assert_eq!(receiver.try_recv(), Some(1));
        assert_eq!(sender.send(2, weight(9, 99)).now_or_never(), Some(Ok(())));
        assert_eq!(receiver.bytes(), 99);
        assert_eq!(sender.send(3, weight(1, 1)).now_or_never(), None, "nothing beside it");
        assert_eq!(receiver.try_recv(), Some(2));
        assert_eq!(receiver.bytes(), 0);
    }

    #[tokio::test]
    async fn whoever_may_not_wait_gets_back_what_has_no_room() {
        let (sender, mut receiver) = channel(2, 10);
        assert_eq!(sender.try_send(1, weight(1, 6)), Ok(()));
        assert_eq!(sender.try_send(2, weight(1, 5)), Err(TrySendError::Full(2)));
        assert_eq!(sender.room(weight(1, 5)).now_or_never(), None);
        assert_eq!(sender.room(weight(1, 4)).now_or_never(), Some(Ok(())));
        assert_eq!(sender.try_send(3, weight(1, 0)), Ok(()), "neither has kept any permit");
        assert_eq!(sender.try_send(4, weight(1, 0)), Err(TrySendError::Full(4)), "two items");
        assert_eq!((receiver.next().await, receiver.next().await, receiver.bytes()), (Some(1), Some(3), 0));
        assert_eq!(sender.try_send(5, weight(1, 99)), Ok(()), "alone");
        assert_eq!(sender.closed().now_or_never(), None);
        drop(receiver);
        assert_eq!(sender.try_send(6, weight(1, 1)), Err(TrySendError::Closed));
        assert_eq!((sender.room(weight(1, 1)).await, sender.is_closed()), (Err(Closed), true));
        sender.closed().await;
    }

    #[tokio::test]
    async fn order_is_kept_among_those_who_wait() {
        let (sender, mut receiver) = channel(1, 10);
        sender.send(0, weight(1, 1)).await.expect("received");
        let (one, two) = (sender.send(1, weight(1, 10)), sender.send(2, weight(1, 1)));
        let receiving = async {
            let mut all = Vec::new();
            for _ in 0..3 {
                all.extend(receiver.recv().await);
            }
            all
        };
        let (_, _, all) = tokio::join!(one, two, receiving);
        assert_eq!(all, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_dropped_receiver_ends_the_wait_and_a_dropped_sender_the_queue() {
        let (sender, receiver) = channel(1, 1);
        sender.send(0, weight(1, 1)).await.expect("received");
        let waiting = sender.send(1, weight(1, 1));
        let (sent, ()) = tokio::join!(waiting, async { drop(receiver) });
        assert_eq!(sent, Err(Closed));
        assert_eq!(sender.send(2, weight(1, 1)).await, Err(Closed));

        let (sender, mut receiver) = channel(1, 1);
        sender.send(7, weight(1, 1)).await.expect("received");
        drop(sender);
        assert_eq!((receiver.recv().await, receiver.recv().await), (Some(7), None));
    }
}
