//! Admin writes and which of them were acknowledged: these must be there whatever happens afterwards (I6).

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{admin::Admin, cluster::Cluster};

/// Bytes of one write: large enough that a few fill a small disk.
const WRITE_BYTES: usize = 100 * 1024;

/// Stopped connectors, made one after the other.
#[derive(Debug, Default)]
pub struct Writes {
    prefix: String,
    asked: usize,
    acknowledged: Vec<String>,
}

impl Writes {
    /// None yet; `prefix` keeps their names apart from others'.
    pub fn new(prefix: String) -> Self {
        Self { prefix, ..Self::default() }
    }

    /// Writes until `done`; a write that is not acknowledged is forgotten.
    pub fn until(
        &mut self,
        cluster: &mut Cluster,
        limit: Duration,
        mut done: impl FnMut(&mut Cluster) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !done(cluster) {
            if Instant::now() > deadline {
                bail!("{} writes did not bring it about within {limit:?}", self.asked);
            }
            self.asked += 1;
            let name = format!("{}-{}", self.prefix, self.asked);
            if cluster.admin.create_stopped(&name, WRITE_BYTES).is_ok() {
                self.acknowledged.push(name);
            }
        }
        Ok(())
    }

    /// Writes so many.
    pub fn some(&mut self, cluster: &mut Cluster, count: usize) -> Result<()> {
        let mut left = count + 1;
        self.until(cluster, Duration::from_secs(30), |_| {
            left -= 1;
            left == 0
        })
    }

    /// Acknowledged writes that are not there; removes the others.
    pub fn lost(self, admin: &Admin) -> Vec<String> {
        let lost: Vec<String> =
            self.acknowledged.iter().filter(|name| admin.connector(name).is_err()).cloned().collect();
        for name in self.acknowledged.iter().filter(|name| !lost.contains(name)) {
            // What stays is in nobody's way.
            let _ = admin.delete(name);
        }
        lost
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}
