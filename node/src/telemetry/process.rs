//! The usual `process_*` metrics, read from /proc at every scrape. A value that cannot be read is left out rather
//! than shown as zero.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks per second in /proc/self/stat. Linux fixes USER_HZ at 100 for everything that user space can see.
const USER_HZ: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    started_seconds: f64,
}

impl Process {
    pub(super) fn started_now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { started_seconds: since.map_or(0.0, |since| since.as_secs_f64()) }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        gauge(&mut encoder, "start_time_seconds", "Unix time of the start", Some(self.started_seconds))?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status_number(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024.0);
        gauge(&mut encoder, "resident_memory_bytes", "Resident memory", resident)?;
        gauge(&mut encoder, "threads", "Operating system threads", status_number(&status, "Threads:"))?;
        let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
        gauge(&mut encoder, "open_fds", "Open file descriptors", open)?;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        gauge(&mut encoder, "max_fds", "Most file descriptors allowed", fds_max(&limits))?;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            let counter = ConstCounter::new(seconds);
            let help = "User and system CPU time";
            counter.encode(encoder.encode_descriptor("cpu_seconds", help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: Option<f64>) -> std::fmt::Result {
    let Some(value) = value else { return Ok(()) };
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn status_number(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn fds_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The command name may hold spaces and brackets: count fields from the last bracket, which ends field 2.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_their_keys() {
        assert_eq!(status_number("Name:\tx\nVmRSS:\t  1234 kB\nThreads:\t7\n", "VmRSS:"), Some(1234.0));
        assert_eq!(status_number("Name:\tx\n", "VmRSS:"), None);
        assert_eq!(
            fds_max("Max open files            1024                 4096                 files\n"),
            Some(1024.0)
        );
        assert_eq!(fds_max("Max open files            unlimited            unlimited            files\n"), None);
    }

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "1 (a) b (c)) S 0 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("garbage"), None);
    }
}
