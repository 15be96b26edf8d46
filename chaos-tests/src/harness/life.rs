//! What the kernel and the log tell of a node process over its life.

use std::path::Path;

use super::process::Process;

/// A node over all its processes.
#[derive(Debug, Clone, Default)]
pub struct NodeLife {
    pub name: String,
    /// Most memory that it ever held, by the kernel's own mark.
    pub rss_mib_max: u64,
    pub fds_max: u64,
    /// Panics found in its log.
    pub panics: Vec<String>,
    /// Ended although nobody ended it; how.
    pub died: Option<String>,
}

impl NodeLife {
    pub(super) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub(super) fn look_at(&mut self, process: &mut Process) {
        if let Some(status) = process.ended() {
            self.died = Some(format!("{status}; its log ends with:\n{}", process.log_tail()));
            return;
        }
        let proc = format!("/proc/{}", process.pid());
        let status = std::fs::read_to_string(format!("{proc}/status")).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        self.rss_mib_max = self.rss_mib_max.max(kib.unwrap_or(0_u64) / 1_024);
        let fds = std::fs::read_dir(format!("{proc}/fd")).map_or(0, Iterator::count);
        self.fds_max = self.fds_max.max(fds as u64);
    }

    pub(super) fn with_panics(mut self, log: &Path) -> Self {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        self.panics = text.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect();
        self
    }
}
