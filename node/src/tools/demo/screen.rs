//! What the viewer sees: lines that stay, and on a terminal one status line below them that is drawn over.

use std::io::{IsTerminal as _, Write as _};

use tokio::time::{Duration, Instant};

use twinfeed_proto::admin::ConnectorStatus;

/// Without a terminal, a status line every so often.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Screen {
    terminal: bool,
    began: Instant,
    last_plain: Instant,
    drawn: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { terminal: std::io::stdout().is_terminal(), began: now, last_plain: now, drawn: false }
    }

    /// A line that stays.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        let seconds = self.began.elapsed().as_secs_f64();
        self.print(&format!("{seconds:7.2}s  {}\n", text.replace('\n', "\n          ")));
    }

    /// The present state.
    pub(super) fn status(&mut self, status: &ConnectorStatus) {
        let aligned = if status.at_risk { "at risk" } else { "redundant" };
        let deduplicated = status.frames_deduplicated as f64 / (status.frames_received.max(1)) as f64 * 100.0;
        let line = format!(
            "owner {:<3} standby {:<3} epoch {:<4} {aligned:<9} {:>7.0}/s  written {:<9} copies {deduplicated:>4.1} %  p99 {:.0} ms",
            status.owner,
            status.standby,
            status.epoch,
            status.records_per_second,
            status.records_committed,
            status.latency_p99_ms,
        );
        if self.terminal {
            self.clear();
            self.print(&format!("\x1b[2m{line}\x1b[0m"));
            self.drawn = true;
        } else if self.last_plain.elapsed() >= PLAIN_EVERY {
            self.last_plain = Instant::now();
            self.say(&line);
        }
    }

    /// The verdict, without a time: it is to be copied.
    pub(super) fn verdict(&mut self, text: &str) {
        self.clear();
        self.print(&format!("{text}\n"));
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            self.print("\r\x1b[2K");
        }
    }

    fn print(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A closed terminal has nobody to be told.
        let _ = out.write_all(text.as_bytes());
        let _ = out.flush();
    }
}
