//! What is new in a report or a view since it was last told: nodes tell each other differences, so that ten thousand quiet
//! streams cost nothing. Pure; `pieces` makes messages of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::model::{
    ids::NodeId,
    report::{ClusterView, Lines, NodeReport, NodeView, SubscriptionReport, WriterReport},
};

/// Writers of one node whose samples of differing messages travel: some 8 KiB each. Of the others only what was found does.
const SAMPLED_WRITERS_MAX: usize = 500;

/// From one report of a node to its next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ReportChange {
    /// Nothing that was told before counts any more.
    whole: bool,
    /// Everything but its writers, which are only those that have changed.
    node: NodeReport,
    /// Writers that do not run there any more.
    gone: BTreeSet<String>,
    /// Writers whose comparison is the one that was told before, and is not told again: it is the larger part of a report.
    #[serde(default)]
    compared_as_before: BTreeSet<String>,
}

impl ReportChange {
    /// Whose report it is.
    pub(super) fn node_id(&self) -> NodeId {
        self.node.id
    }

    /// Makes the known report the present one; None when the change does not say enough for that.
    pub(super) fn apply(self, known: Option<NodeReport>) -> Option<NodeReport> {
        if self.whole {
            return Some(self.node);
        }
        let mut writers = known?.writers;
        writers.retain(|id, _| !self.gone.contains(id));
        for (id, mut report) in self.node.writers {
            if self.compared_as_before.contains(&id) {
                report.comparison = writers.get_mut(&id).and_then(|known| known.comparison.take());
            }
            writers.insert(id, report);
        }
        Some(NodeReport { writers, ..self.node })
    }

    /// The same for one that others hold, too: it stays the same one while nothing in it has changed.
    pub(super) fn apply_shared(self, known: Option<Arc<NodeReport>>) -> Option<Arc<NodeReport>> {
        let unchanged = known.as_ref().is_some_and(|known| {
            let writers = BTreeMap::new();
            let (name, version) = (known.name.clone(), known.version.clone());
            !self.whole && self.gone.is_empty() && self.node == NodeReport { name, version, writers, ..**known }
        });
        if unchanged {
            return known;
        }
        self.apply(known.map(Arc::unwrap_or_clone)).map(Arc::new)
    }
}

/// What one listener has been told of one node's writers; None before it has been told anything.
#[derive(Debug, Default)]
pub(super) struct ToldReport(Option<BTreeMap<String, WriterReport>>);

impl ToldReport {
    /// What to tell next. Where nothing but counts has moved, only if those are wanted: they move with every message.
    pub(super) fn tell(&mut self, now: &NodeReport, counts: bool) -> ReportChange {
        let whole = self.0.is_none();
        let told = self.0.get_or_insert_default();
        let gone: BTreeSet<String> = told.keys().filter(|id| !now.writers.contains_key(*id)).cloned().collect();
        let is_news = |(id, report): &(&String, &WriterReport)| {
            told.get(*id).is_none_or(|known| {
                known != *report && (counts || without_counts((*known).clone()) != without_counts((*report).clone()))
            })
        };
        let news = now.writers.iter().filter(is_news).map(|(id, report)| (id.clone(), report.clone()));
        let mut writers: BTreeMap<String, WriterReport> = news.collect();
        told.retain(|id, _| !gone.contains(id));
        let before: Vec<_> = writers.iter().map(|(id, report)| told.insert(id.clone(), report.clone())).collect();
        let mut compared_as_before = BTreeSet::new();
        for ((id, report), before) in writers.iter_mut().zip(before) {
            if report.comparison.is_some() && before.is_some_and(|before| before.comparison == report.comparison) {
                report.comparison = None;
                compared_as_before.insert(id.clone());
            }
        }
        let compared = now.writers.iter().filter(|(_, report)| report.comparison.is_some());
        for (id, _) in compared.skip(SAMPLED_WRITERS_MAX) {
            if let Some(comparison) = writers.get_mut(id).and_then(|report| report.comparison.as_mut()) {
                *comparison = Arc::new(comparison.without_samples());
            }
        }
        let node = NodeReport { name: now.name.clone(), version: now.version.clone(), writers, ..*now };
        ReportChange { whole, node, gone, compared_as_before }
    }
}

/// What decisions rest on: states, and whether something waits at all.
fn without_counts(report: WriterReport) -> WriterReport {
    WriterReport {
        frames_received: 0,
        frames_deduplicated: 0,
        records_committed: 0,
        records_per_second: 0.0,
        unacked_records: report.unacked_records.min(1),
        retained_frames: report.retained_frames.min(1),
        latency_p50_ms: 0.0,
        latency_p99_ms: 0.0,
        comparison: None,
        lines: Lines {
            idle: report.lines.idle,
            own_behind_ms: report.lines.own_behind_ms.min(1),
            standby_behind_ms: report.lines.standby_behind_ms.min(1),
            ..Lines::default()
        },
        subscription: SubscriptionReport { last_message_ms: 0, keep_alives: 0, ..report.subscription },
        ..report
    }
}

/// From one view of the cluster to the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ViewChange {
    leader: NodeId,
    /// Every member.
    nodes: BTreeMap<NodeId, NodeChange>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NodeChange {
    up: bool,
    last_contact_ms: u64,
    report: ReportChange,
}

impl ViewChange {
    /// Makes the known view the present one; false when it does not say enough for that.
    pub(super) fn apply(self, view: &mut ClusterView) -> bool {
        let mut known = std::mem::take(&mut view.nodes);
        view.leader = self.leader;
        for (id, change) in self.nodes {
            let NodeChange { up, last_contact_ms, report } = change;
            let Some(report) = report.apply(known.remove(&id).map(|node| node.report)) else { return false };
            view.nodes.insert(id, NodeView { report, up, last_contact_ms });
        }
        true
    }
}

/// What one listener has been told of the cluster.
#[derive(Debug, Default)]
pub(super) struct ToldView(BTreeMap<NodeId, ToldReport>);

impl ToldView {
    /// What to tell next.
    pub(super) fn tell(&mut self, now: &ClusterView) -> ViewChange {
        self.0.retain(|id, _| now.nodes.contains_key(id));
        let change = |(id, node): (&NodeId, &NodeView)| {
            // Nodes tell counts at their own pace already.
            let report = self.0.entry(*id).or_default().tell(&node.report, true);
            (*id, NodeChange { up: node.up, last_contact_ms: node.last_contact_ms, report })
        };
        ViewChange { leader: now.leader, nodes: now.nodes.iter().map(change).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::Comparison;

    fn report(writers: &[(&str, u64, bool)]) -> NodeReport {
        let writer = |(name, committed, delivering): &(&str, u64, bool)| {
            let report = WriterReport { records_committed: *committed, delivering: *delivering, ..Default::default() };
            ((*name).to_owned(), report)
        };
        NodeReport { id: 1, writers: writers.iter().map(writer).collect(), ..NodeReport::default() }
    }

    fn told(change: &ReportChange) -> Vec<&str> {
        change.node.writers.keys().map(String::as_str).collect()
    }

    #[test]
    fn only_what_changed_is_told_and_counts_at_their_own_pace() {
        let mut teller = ToldReport::default();
        let first = teller.tell(&report(&[("a", 1, true), ("b", 1, true)]), false);
        assert_eq!(told(&first), ["a", "b"]);
        let mut known = first.apply(None);
        for (now, counts, expected) in [
            (report(&[("a", 2, true), ("b", 2, false)]), false, vec!["b"]),
            (report(&[("a", 3, true), ("b", 2, false)]), true, vec!["a"]),
            (report(&[("b", 2, false), ("c", 0, false)]), false, vec!["c"]),
            (report(&[("b", 2, false), ("c", 0, false)]), true, vec![]),
        ] {
            let change = teller.tell(&now, counts);
            assert_eq!(told(&change), expected);
            known = change.apply(known);
            if counts || !expected.contains(&"b") {
                assert_eq!(known.as_ref(), Some(&now));
            }
        }
    }

    /// The largest cluster there may be, all on one node. Whatever the bytes, `pieces` carries them; what must stay small is
    /// what is told ten times a second.
    #[test]
    fn a_report_of_ten_thousand_writers_is_told_once_and_then_nearly_nothing() {
        let bytes = |change: &ReportChange| serde_json::to_vec(change).expect("plain data").len();
        let names: Vec<String> = (0..10_000).map(|i| format!("exchange-{i}-trades")).collect();
        let mut now = report(&names.iter().map(|name| (name.as_str(), 1, true)).collect::<Vec<_>>());
        for report in now.writers.values_mut() {
            report.subscription.url = "wss://stream.example.com:9443/ws/btcusdt@trade".to_owned();
            report.subscription.last_error = "the server closed the connection: 1001 going away".to_owned();
        }
        let mut teller = ToldReport::default();
        let whole = bytes(&teller.tell(&now, true));
        assert!((5_000_000..10_000_000).contains(&whole), "{whole} bytes: above tonic's own limit of 4 MiB");
        assert!(bytes(&teller.tell(&now, true)) < 300, "nothing happened");
        now.writers.values_mut().for_each(|report| report.records_committed += 100);
        assert!(bytes(&teller.tell(&now, false)) < 300, "counts wait for their time");
        now.writers.values_mut().take(10).for_each(|report| report.redundant = true);
        let ten = bytes(&teller.tell(&now, false));
        assert!((1_000..20_000).contains(&ten), "{ten} bytes for ten that changed");
    }

    #[test]
    fn a_comparison_is_told_once_with_the_counts_and_stays_known() {
        let compared = |committed, advice: &str| {
            let mut report = report(&[("a", committed, true)]);
            let comparison = Comparison { advice: advice.to_owned(), ..Comparison::default() };
            report.writers.get_mut("a").expect("there is one").comparison = Some(Arc::new(comparison));
            report
        };
        let mut teller = ToldReport::default();
        let mut known = teller.tell(&report(&[("a", 1, true)]), true).apply(None);
        assert_eq!(told(&teller.tell(&compared(1, "x"), false)), Vec::<&str>::new(), "it decides nothing");
        for (now, is_told) in [
            (compared(2, "x"), true),
            (compared(3, "x"), false),
            (compared(4, "y"), true),
            (report(&[("a", 5, true)]), false),
            (compared(6, "y"), true),
        ] {
            let change = teller.tell(&now, true);
            assert_eq!(change.node.writers["a"].comparison.is_some(), is_told);
            known = change.apply(known);
            assert_eq!(known.as_ref(), Some(&now));
        }
        assert_eq!(teller.tell(&compared(7, "y"), true).apply(None), None, "it rests on one that did not come");
    }

    #[test]
    fn samples_of_ten_thousand_writers_do_not_swell_a_report() {
        let names: Vec<String> = (0..10_000).map(|i| format!("exchange-{i}-trades")).collect();
        let mut now = report(&names.iter().map(|name| (name.as_str(), 1, true)).collect::<Vec<_>>());
        let pairs = vec![("x".repeat(400), "y".repeat(400)); 5];
        let comparison = Comparison { pairs, advice: "z".repeat(400), ..Comparison::default() };
        now.writers.values_mut().for_each(|report| report.comparison = Some(Arc::new(comparison.clone())));
        let change = ToldReport::default().tell(&now, true);
        let with_samples = |report: &&WriterReport| report.comparison.as_ref().is_some_and(|c| !c.pairs.is_empty());
        assert_eq!(change.node.writers.values().filter(with_samples).count(), SAMPLED_WRITERS_MAX);
        assert!(change.node.writers.values().all(|report| report.comparison.is_some()));
        let bytes = serde_json::to_vec(&change).expect("plain data").len();
        assert!(bytes < 20_000_000, "{bytes} bytes");
    }

    #[test]
    fn that_something_waits_is_told_at_once() {
        let mut teller = ToldReport::default();
        let waiting = |unacked_records| {
            let mut report = report(&[("a", 0, true)]);
            report.writers.get_mut("a").expect("there is one").unacked_records = unacked_records;
            report
        };
        teller.tell(&waiting(0), false);
        assert_eq!(told(&teller.tell(&waiting(5), false)), ["a"]);
        assert_eq!(told(&teller.tell(&waiting(6), false)), Vec::<&str>::new());
        assert_eq!(told(&teller.tell(&waiting(0), false)), ["a"]);
    }

    #[test]
    fn a_view_is_the_same_after_its_changes_and_a_missed_one_is_noticed() {
        let node = |report| NodeView { report, up: true, last_contact_ms: 7 };
        let first = ClusterView { leader: 1, nodes: [(1, node(report(&[("a", 1, true)])))].into() };
        let second =
            ClusterView { leader: 1, nodes: [(1, node(report(&[]))), (2, node(report(&[("b", 0, true)])))].into() };
        let third = ClusterView { leader: 1, nodes: [(2, node(report(&[("b", 0, false)])))].into() };
        let (mut teller, mut known) = (ToldView::default(), ClusterView::default());
        for now in [first, second, third.clone()] {
            assert!(teller.tell(&now).apply(&mut known));
            assert_eq!(known, now);
        }
        assert!(!teller.tell(&third).apply(&mut ClusterView::default()));
    }
}
