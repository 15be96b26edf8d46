//! What the last stable offset says of a transaction, and why anybody asks. Pure.
//!
//! EndTxn is answered once the coordinator has logged its decision; the markers that make it true in the partitions follow.
//! A partition that has no leader at that moment is taken for deleted: its marker is skipped, the transaction counts as
//! complete, and the records stay open (TransactionMarkerChannelManager.addTxnMarkersToBrokerQueue; met with Kafka 4.3.0
//! when its only broker is killed between decision and marker). The producer id's *next* marker there decides about them,
//! whatever it says: a commit commits them with its own records, an abort undoes a commit that was answered. An init sees
//! nothing of it, and a reader's tail ends before them. Hence two rules (docs/adr/0007):
//!
//! - A write is done when the last stable offset has passed its records, not when its commit is answered. So nothing is
//!   released that an abort could still undo.
//! - Before its first commit a producer looks whether something is open before its own records, and if so aborts: that
//!   closes what its predecessor left open, of which nothing was released, by the first rule.

use std::ops::Range;

/// The records of one transaction in a partition: their offsets.
pub(super) type Span = (i32, Range<i64>);

/// Where the last stable offset stands, seen from a committed transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Behind its records: the marker is there.
    Closed,
    /// At its records: the marker is not there yet, or never will be.
    Open,
    /// Before its records: somebody else's transaction is open there, and hides them whether they are closed or not.
    Hidden,
}

impl Sight {
    pub(super) fn of(records: &Range<i64>, stable: i64) -> Self {
        if stable >= records.end {
            Self::Closed
        } else if stable >= records.start {
            Self::Open
        } else {
            Self::Hidden
        }
    }
}

/// Adds an offset to the spans of a transaction.
pub(super) fn widen(spans: &mut Vec<Span>, partition: i32, offset: i64) {
    match spans.iter_mut().find(|(known, _)| *known == partition) {
        Some((_, span)) => *span = span.start.min(offset)..span.end.max(offset + 1),
        None => spans.push((partition, offset..offset + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_open_only_where_the_stable_offset_stands_within_it() {
        let sights = [19, 20, 29, 30, 31].map(|stable| Sight::of(&(20..30), stable));
        assert_eq!(sights, [Sight::Hidden, Sight::Open, Sight::Open, Sight::Closed, Sight::Closed]);
    }

    #[test]
    fn a_span_holds_all_offsets_in_whatever_order_they_are_reported() {
        let mut spans = Vec::new();
        for (partition, offset) in [(0, 7), (0, 5), (1, 3), (0, 6)] {
            widen(&mut spans, partition, offset);
        }
        assert_eq!(spans, [(0, 5..8), (1, 3..4)]);
    }
}
