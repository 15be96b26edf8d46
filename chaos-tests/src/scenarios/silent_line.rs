//! One line of the stream falls silent while its twin goes on: the server answers pings and sends nothing, or nothing of
//! one channel. Only a node that compares the two can notice. It must say at once that the stream is not redundant, and
//! connect the line anew; every other time the owner is killed meanwhile, and what that costs must be told. A feed that
//! pauses as a whole, whose lines are far apart all the time, or whose connections say things for themselves, is left alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::{FeedOptions, Ledger, let_pass, wait_for},
    invariants::Invariant,
    observation::SilentLine as Seen,
    stage::{CONNECTOR, Roles, Stage, StageOptions, wall_ms},
    story::{Facts, Scale, Story},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SilentLine {
    /// The line of the owner, which keeps telling its own heartbeats.
    Owner,
    Standby,
    /// One of three channels, of either line.
    Channel,
    /// Both at once, as the feed itself pauses; one line is late all the time, by almost the whole span.
    Honest,
}

const CHANNELS: u32 = 3;
/// A line that has kept up for longer than two seconds is connected anew as soon as one that never was.
const KEPT_UP: Duration = Duration::from_millis(2_500);
/// Within which a line that lacks what its twin has is connected anew, milliseconds.
const ANEW_MS_MAX: u64 = 10_000;
/// Between two looks at the stream.
const LOOK: Duration = Duration::from_millis(100);
/// Span within which messages are matched, milliseconds; the longer one is the default.
const SPANS_MS: (u64, u64) = (5_000, 10_000);
/// So many lie between the two lines then as fit into the 8,192 among which a newcomer is aligned.
const HONEST_RATE: u64 = 500;
/// A silent line says so much of itself.
const HEARTBEAT: [&str; 3] = ["--heartbeat-every-ms", "1000", "--answer"];

impl Story for SilentLine {
    fn facts(&self) -> Facts {
        let facts = match self {
            Self::Owner => Facts::new("silent-owner-line", &[41], "the owner's line is silent, pings are answered"),
            Self::Standby => {
                Facts::new("silent-standby-line", &[41], "the standby's line is silent, pings are answered")
            }
            Self::Channel => Facts::new("silent-channel", &[41], "one of three channels of a line is silent"),
            Self::Honest => {
                let tells = "the feed pauses, lines are 90 % of the span apart and have own heartbeats: left alone";
                return Facts { faults_per_stage: 2, ..Facts::new("honest-silence", &[41], tells) };
            }
        };
        // With and without a kill; a channel of the owner's line, and of the standby's.
        let faults_per_stage = if *self == Self::Channel { 4 } else { 2 };
        Facts { invariants: Invariant::ONE_LINE, faults_per_stage, ..facts }
    }

    fn stage_at(&self, scale: Scale, _seed: u64) -> Result<StageOptions> {
        let usual = FeedOptions::default();
        let feed = match self {
            Self::Owner => FeedOptions { more: HEARTBEAT.map(str::to_owned).into(), ..usual },
            Self::Standby => usual,
            Self::Channel => FeedOptions { more: vec!["--channels".to_owned(), CHANNELS.to_string()], ..usual },
            Self::Honest => FeedOptions {
                rate: Some(HONEST_RATE),
                skew_ms: honest_skew_ms(scale),
                more: HEARTBEAT.map(str::to_owned).into(),
                ..usual
            },
        };
        let mut connector = vec![("websocket.subscription.message", "subscribe".to_owned())];
        if *self == Self::Honest {
            connector.push(("twinfeed.dedup.span.ms", scale.pick(SPANS_MS.0, SPANS_MS.1).to_string()));
        }
        Ok(StageOptions { feed, connector, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        if *self == Self::Honest { honest(stage) } else { self.silence(stage, random) }
    }
}

impl SilentLine {
    fn silence(self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        if stage.faults() > 0 {
            let_pass(KEPT_UP);
        }
        let roles = stage.roles()?;
        let of_owner = match self {
            Self::Channel => (stage.faults() / 2).is_multiple_of(2),
            _ => self == Self::Owner,
        };
        let path = path_of(stage, if of_owner { &roles.owner } else { &roles.standby })?;
        let lasts = Duration::from_secs(stage.scale.pick(15, 60));
        let kill_at = self.kills(stage).then(|| match stage.scale {
            // Long enough for the line to be connected anew, and silent still.
            Scale::Quick => Duration::from_millis(ANEW_MS_MAX + 2_000),
            Scale::Full => Duration::from_millis(random.random_range(1_000..50_000)),
        });
        let what = format!("{} of {path} ({}) is silent", self.part(), if of_owner { "owner" } else { "standby" });
        let killed =
            kill_at.map_or_else(String::new, |at| format!(", {} killed after {} ms", roles.owner, at.as_millis()));
        let before = stage.feed.ledger()?;
        stage.fault(&format!("{what} for {} s{killed}", lasts.as_secs()));
        match self {
            Self::Channel => stage.feed.silence_channel(&path, random.random_range(0..CHANNELS))?,
            _ => stage.feed.silence(&path)?,
        }
        let (since, silent_at_ms) = (Instant::now(), wall_ms());
        let mut seen = Seen { what, skew_ms: FeedOptions::default().skew_ms, looks: Vec::new() };
        let (mut kill_at, killed_at) = (kill_at, kill_at);
        while since.elapsed() < lasts {
            stage.look(&mut seen, since);
            if kill_at.take_if(|at| since.elapsed() >= *at).is_some() {
                kill(stage, &roles)?;
            }
            let_pass(LOOK);
        }
        let after = stage.feed.ledger()?;
        self.prove(&path, &before, &after, lasts)?;
        // A line that has lost its twin before is not to be measured by it.
        if killed_at.is_none_or(|at| at >= Duration::from_millis(ANEW_MS_MAX)) {
            check_anew(stage, &after, &path, silent_at_ms);
        }
        ensure!(seen.looks.len() > 20, "the admin API hardly answered: {} looks", seen.looks.len());
        stage.seen.silent_lines.push(seen);
        stage.feed.speak(&path)?;
        if !killed.is_empty() && !of_owner {
            // What only the killed owner had. Its line goes on at another node, so it ends here at the latest.
            stage.seen.excused.push((silent_at_ms.saturating_sub(250), wall_ms()));
        }
        stage.fault_over();
        stage.wait_going_on()
    }

    /// Whether the owner is killed while the line is silent: every other time.
    fn kills(self, stage: &Stage) -> bool {
        stage.faults() % 2 == usize::from(self != Self::Standby)
    }

    fn part(self) -> &'static str {
        if self == Self::Channel { "one channel" } else { "the line" }
    }

    /// The line was sent nothing, or a third less, and its twin everything.
    fn prove(self, path: &str, before: &Ledger, after: &Ledger, lasts: Duration) -> Result<()> {
        let more = |of: &str| after.sent_on(of).saturating_sub(before.sent_on(of));
        let (sent, twin) = (more(path), more(if path == "a" { "b" } else { "a" }));
        // In the moment between the look at the ledger and the order some were sent, and there may be several connections.
        let most = match self {
            Self::Channel => twin * 9 / 10,
            _ => twin / 10,
        };
        ensure!(sent <= most, "{path} was sent {sent} messages while it was silent, its twin {twin}");
        ensure!(twin as f64 > 100.0 * lasts.as_secs_f64(), "only {twin} messages on the line that goes on");
        Ok(())
    }
}

/// As far apart as lines may be: nine tenths of the span.
fn honest_skew_ms(scale: Scale) -> u64 {
    scale.pick(SPANS_MS.0, SPANS_MS.1) * 9 / 10
}

/// The feed pauses as a whole. Nobody may take one of its lines for a silent one: not in the pause, not after it, while one
/// line speaks and the other is still as late as ever.
fn honest(stage: &mut Stage) -> Result<()> {
    let lasts = Duration::from_secs(stage.scale.pick(11, 60));
    let skew_ms = honest_skew_ms(stage.scale);
    let before = stage.feed.ledger()?;
    let mut calm = Seen { what: String::new(), skew_ms: 0, looks: Vec::new() };
    stage.fault(&format!("the feed pauses for {} s, lines {skew_ms} ms apart", lasts.as_secs()));
    stage.feed.pause()?;
    let (since, mut sent) = (Instant::now(), None);
    // The pause, and then as long as the late line needs to be heard again.
    while since.elapsed() < lasts + Duration::from_millis(skew_ms + 2_000) {
        if sent.is_none() && since.elapsed() >= lasts {
            sent = Some(stage.feed.ledger()?.sent());
            stage.feed.resume()?;
        }
        stage.look(&mut calm, since);
        let_pass(LOOK);
    }
    stage.fault_over();
    let after = stage.feed.ledger()?;
    // Between the look at the ledger and the order to pause a moment's worth was sent.
    ensure!(sent.is_some_and(|sent| sent < before.sent() + HONEST_RATE), "the feed did not pause");
    ensure!(after.sent() > before.sent() + 4 * HONEST_RATE, "the feed did not go on");
    if let Some(wrong) = calm.looks.iter().find(|look| !look.redundant) {
        stage.found(format!("an honest feed was called at risk {} ms after its pause began", wrong.after_ms));
    }
    let connections = |ledger: &Ledger| ["a", "b"].map(|path| ledger.of(path).count());
    if connections(&after) != connections(&before) {
        stage.found("a line of an honest feed was connected anew".to_owned());
    }
    Ok(())
}

/// kill -9 of the owner, and back once the others have noticed.
fn kill(stage: &mut Stage, roles: &Roles) -> Result<()> {
    stage.cluster.kill(&roles.owner)?;
    stage.wait_new_owner(roles.epoch)?;
    stage.wait_down(&roles.owner)?;
    stage.cluster.start_node(&roles.owner)
}

/// The path whose connection a node has.
fn path_of(stage: &Stage, node: &str) -> Result<String> {
    wait_for("the subscription of a node", Duration::from_secs(10), || {
        let status = stage.cluster.admin.connector(CONNECTOR).ok()?.status?;
        let its = status.subscriptions.into_iter().find(|subscription| subscription.node == node)?;
        its.url.rsplit('/').next().filter(|path| !path.is_empty()).map(str::to_owned)
    })
    .with_context(|| format!("{node} has none"))
}

/// The tool must have seen the line come again in time.
fn check_anew(stage: &mut Stage, ledger: &Ledger, path: &str, silent_at_ms: u64) {
    let first = ledger.of(path).map(|connection| connection.connected_at_ms).find(|at_ms| *at_ms > silent_at_ms);
    match first.map(|at_ms| at_ms - silent_at_ms) {
        Some(after_ms) if after_ms <= ANEW_MS_MAX => {
            stage.seen.figures.insert("connected_anew_ms".to_owned(), after_ms as f64);
        }
        Some(after_ms) => stage.found(format!("{path} was connected anew only {after_ms} ms after it fell silent")),
        None => stage.found(format!("{path} was not connected anew while it was silent")),
    }
}
