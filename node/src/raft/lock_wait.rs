//! Waits for the locks of a data directory, which a process on its way out may still hold.

use std::{
    thread,
    time::{Duration, Instant},
};

/// A process that was killed keeps its locks until the kernel has torn it down, and one that forks lends them to the
/// child until that has called `exec`: a lock that is held may be free within milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(3);
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Calls `take` until its result is not `held`, at most for `WAIT_MAX`, and returns the last result. Blocks.
pub(super) fn wait_for_lock<T>(mut take: impl FnMut() -> T, held: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let result = take();
        if !held(&result) || Instant::now() > deadline {
            return result;
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_is_taken() {
        let mut attempts = 0;
        let taken = wait_for_lock(
            || {
                attempts += 1;
                attempts > 3
            },
            |taken| !taken,
        );
        assert!(taken);
        assert_eq!(attempts, 4);
    }
}
