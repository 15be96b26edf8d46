//! Reads the metrics of all nodes once a second, as a monitoring system does, and keeps what they said.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use twinfeed_chaos::harness::{exposition, let_pass};

const EVERY: Duration = Duration::from_secs(1);

/// What a node answered to a scrape; None: nothing.
#[derive(Debug, Clone)]
pub(super) struct Scrape {
    /// Since the watch began.
    pub(super) second: u64,
    pub(super) node: String,
    pub(super) text: Option<String>,
}

/// Scrapes until it is dropped. A node that hangs holds up nobody but itself.
#[derive(Debug)]
pub(super) struct Watch {
    began: Instant,
    /// Unix time of second 0.
    pub(super) began_at: f64,
    scrapes: Arc<Mutex<Vec<Scrape>>>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Watches these nodes, by name and address of the HTTP listener.
    pub(super) fn start(nodes: &[(String, String)]) -> Self {
        let (scrapes, over) = (Arc::<Mutex<Vec<Scrape>>>::default(), Arc::<AtomicBool>::default());
        let began = Instant::now();
        let began_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let threads = nodes.iter().cloned().map(|(node, address)| {
            let (scrapes, over) = (Arc::clone(&scrapes), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let second = began.elapsed().as_secs() + 1;
                    let_pass((EVERY * second as u32).saturating_sub(began.elapsed()));
                    let scrape = Scrape { second, node: node.clone(), text: exposition(&address).ok() };
                    scrapes.lock().expect("no scraper panics with it").push(scrape);
                }
            })
        });
        let threads = threads.collect();
        Self { began, began_at, scrapes, over, threads }
    }

    /// The present second.
    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    /// The scrapes of these seconds.
    pub(super) fn between(&self, from: u64, to: u64) -> Vec<Scrape> {
        let scrapes = self.scrapes.lock().expect("no scraper panics with it");
        scrapes.iter().filter(|scrape| (from..to).contains(&scrape.second)).cloned().collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
