//! The handle through which rooms count what only goes up, and through which a scrape is rendered. `Metrics` is made once by
//! `node.rs` and cloned cheaply. What streams and the cluster are like is not counted here but derived; see `derived`.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, info::Info},
    registry::{Metric, Registry},
};

use super::{
    derived::Derived,
    exposition::{self, Exposition},
    facts::Facts,
    process::Process,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPath {
    path: &'static str,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTask {
    kind: &'static str,
    outcome: &'static str,
}

/// All metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    process: Registry,
    derived: Arc<Derived>,
    leader_changes: Counter,
    http_requests: Family<OfPath, Counter>,
    tasks_ended: Family<OfTask, Counter>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// The registry owns its collectors; this one is also told its source later.
#[derive(Debug)]
struct Shared(Arc<Derived>);

impl Collector for Shared {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
}

impl Metrics {
    /// Metrics of the node named `node_name`, whose build is `version`.
    pub fn new(node_name: &str, version: &str) -> Self {
        let mut registry = Registry::with_prefix("twinfeed");
        let build = Info::new([("version".to_owned(), version.to_owned())]);
        registry.register("build", "The running build", build);
        let derived = Arc::new(Derived { source: OnceLock::new(), node_name: node_name.to_owned() });
        registry.register_collector(Box::new(Shared(Arc::clone(&derived))));
        let leader_changes = add(&mut registry, "raft_leader_changes", "Leader changes this node saw");
        let http_requests = add(&mut registry, "http_requests", "HTTP requests answered, by path and status code");
        let tasks_ended = add(&mut registry, "tasks_ended", "Supervised tasks that ended, by kind and outcome");
        let mut process = Registry::with_prefix("process");
        process.register_collector(Box::new(Process::started_now()));
        let inner = Inner { registry, process, derived, leader_changes, http_requests, tasks_ended };
        Self { inner: Arc::new(inner) }
    }

    /// Where the facts come from; asked once at every scrape. Said once, and the first time counts.
    pub fn derive_from(&self, source: impl Fn() -> Facts + Send + Sync + 'static) {
        let _ = self.inner.derived.source.set(Box::new(source));
    }

    /// Counts a change of the Raft leader.
    pub fn leader_changed(&self) {
        self.inner.leader_changes.inc();
    }

    /// Counts an answered HTTP request. `path` is the route, never what the client sent.
    pub fn http_handled(&self, path: &'static str, code: u16) {
        self.inner.http_requests.get_or_create(&OfPath { path, code }).inc();
    }

    /// Counts an ended task.
    pub fn task_ended(&self, kind: &'static str, outcome: &'static str) {
        self.inner.tasks_ended.get_or_create(&OfTask { kind, outcome }).inc();
    }

    /// Everything, as text in the asked format.
    pub fn render(&self, exposition: Exposition) -> String {
        let mut text = String::with_capacity(64 * 1024);
        let written = text::encode_registry(&mut text, &self.inner.registry)
            .and_then(|()| text::encode_registry(&mut text, &self.inner.process))
            .and_then(|()| text::encode_eof(&mut text));
        written.expect("writing to a String cannot fail");
        exposition::finish(text, exposition)
    }
}

fn add<M: Metric + Default + Clone>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
