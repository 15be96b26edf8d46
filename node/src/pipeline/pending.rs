//! What the writer's loop may be waiting for: a future that is there or not, a moment that is set or not. What is absent
//! never comes, so each can be an arm of the select.

use std::{future::Future, pin::Pin, time::Instant};

/// Work in the background, at most one of its kind.
pub(super) type Pending<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// Waits for the work and clears it; for ever when there is none.
pub(super) async fn poll<T>(pending: &mut Pending<T>) -> T {
    match pending {
        Some(future) => {
            let output = future.await;
            *pending = None;
            output
        }
        None => std::future::pending().await,
    }
}

/// Waits for the moment; for ever when none is set.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
