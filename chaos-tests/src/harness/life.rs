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
    /// Losses that it reported as possible.
    pub gaps: Vec<Gap>,
    /// Ended although nobody ended it; how.
    pub died: Option<String>,
}

/// Messages that the feed sent between these times may be missing, says the cluster; milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub from_ms: u64,
    pub to_ms: u64,
}

impl Gap {
    /// Reads the bounds from a line of a node's log: the log outlives the node, its list of events does not.
    fn parse(line: &str) -> Option<Self> {
        let told = line.contains("event=gap ").then_some(line)?;
        let numbers = told.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() == 13);
        let mut times = numbers.filter_map(|digits| digits.parse().ok());
        Some(Self { from_ms: times.next()?, to_ms: times.next()? })
    }
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

    pub(super) fn with_log(mut self, log: &Path) -> Self {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        self.panics = text.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect();
        self.gaps = text.lines().filter_map(Gap::parse).collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_a_gap_are_read_from_the_log() {
        let line = "2026-01-01T10:00:00Z  INFO messages between 1767261600123 and 1767261600456 (ms since 1970) may be \
                    missing event=gap connector=prices epoch=14";
        assert_eq!(Gap::parse(line), Some(Gap { from_ms: 1_767_261_600_123, to_ms: 1_767_261_600_456 }));
        assert_eq!(Gap::parse("1767261600123 1767261600456 event=at_risk connector=prices"), None);
        assert_eq!(Gap::parse("without bounds event=gap connector=prices"), None);
    }
}
