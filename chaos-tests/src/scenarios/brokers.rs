//! Three brokers, every topic on all of them and acknowledged by two. One is killed and comes back; all are restarted one after
//! the other, as an upgrade does; the coordinator of the
//! transactions is killed or frozen while it is asked to end one; two are killed, so that too few replicas are left.
//! The writer must wait, find out what became of its transaction, and write everything once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::{
        KafkaOptions,
        kafka_proxy::{Action, Api},
        let_pass, wait_for,
    },
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brokers {
    /// Any one of the three.
    Killed,
    /// Each in turn, by SIGTERM; the next one when all replicas are in sync again.
    Rolled,
    CoordinatorKilled,
    CoordinatorFrozen,
    /// Two of three: fewer replicas than must be in sync.
    TooFew,
}

const DOWN_MS: std::ops::RangeInclusive<u64> = 1_000..=6_000;
const REACHED_MAX: Duration = Duration::from_secs(90);

impl Story for Brokers {
    fn facts(&self) -> Facts {
        let (name, row, tells): (_, &'static [u8], _) = match self {
            Self::Killed => ("kill-broker", &[19], "kill -9 of one of three brokers, which comes back"),
            Self::Rolled => {
                ("rolling-brokers", &[19], "SIGTERM of three brokers, one after the other, which come back")
            }
            Self::CoordinatorKilled => {
                ("kill-coordinator", &[20], "kill -9 of the transaction coordinator during EndTxn")
            }
            Self::CoordinatorFrozen => {
                ("freeze-coordinator", &[20], "SIGSTOP of the transaction coordinator during EndTxn")
            }
            Self::TooFew => ("too-few-replicas", &[23], "kill -9 of two of three brokers: below min.insync.replicas"),
        };
        let faults_per_stage = if *self == Self::Rolled { 3 } else { 5 };
        Facts { faults_per_stage, ..Facts::new(name, row, tells) }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        let proxied = matches!(self, Self::CoordinatorKilled | Self::CoordinatorFrozen);
        // With all three as controllers, two killed ones would take the quorum with them, and nobody would notice that
        // replicas are out of sync.
        let controllers = if *self == Self::TooFew { 1 } else { 3 };
        Ok(StageOptions { kafka: KafkaOptions::Three { proxied, controllers }, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let down = Duration::from_millis(random.random_range(DOWN_MS));
        match self {
            Self::Killed => kill(stage, &[random.random_range(0..3)], down)?,
            Self::Rolled => roll(stage)?,
            Self::TooFew => kill(stage, &[1, 2], down)?,
            Self::CoordinatorKilled | Self::CoordinatorFrozen => self.coordinator(stage, down, random)?,
        }
        let back_since = Instant::now();
        wait_back(stage)?;
        // Most of a silence is the brokers' own way back.
        let back_ms = back_since.elapsed().as_secs_f64() * 1_000.0;
        let longest = stage.seen.figures.entry("brokers_back_ms_max".to_owned()).or_default();
        *longest = longest.max(back_ms);
        Ok(())
    }
}

impl Brokers {
    fn coordinator(self, stage: &mut Stage, down: Duration, random: &mut StdRng) -> Result<()> {
        let coordinator =
            wait_for("a transaction coordinator", REACHED_MAX, || stage.kafka.three().ok()?.transaction_coordinator())?;
        stage.fault(&format!("{} broker {coordinator} for {} ms", self.facts().name, down.as_millis()));
        stage.kafka.proxies[coordinator].set(Api::EndTxn, Action::HoldUntilReleased, 1);
        let proxy = &stage.kafka.proxies[coordinator];
        wait_for("an EndTxn", REACHED_MAX, || (proxy.held() > 0).then_some(()))?;
        // Before: the coordinator never gets it. After: it may have got it, and nobody hears what it did.
        let before = random.random_bool(0.5);
        if before {
            stage.kafka.proxies[coordinator].release();
        }
        if self == Self::CoordinatorKilled {
            stage.kafka.three()?.kill(coordinator);
        } else {
            stage.kafka.three()?.pause(coordinator)?;
        }
        if !before {
            stage.kafka.proxies[coordinator].release();
        }
        let_pass(down);
        if self == Self::CoordinatorKilled {
            stage.kafka.three()?.restart(coordinator)?;
        } else {
            stage.kafka.three()?.resume(coordinator)?;
        }
        Ok(())
    }
}

/// All brokers answer, and every replica is in sync.
fn wait_back(stage: &mut Stage) -> Result<()> {
    let topic = stage.topic.clone();
    let brokers = stage.kafka.three()?;
    (0..3).try_for_each(|broker| brokers.wait_answer(broker))?;
    brokers.wait_members(3)?;
    wait_for("all replicas to be in sync", REACHED_MAX, || (brokers.in_sync_of(&topic)? == 3).then_some(()))
}

fn roll(stage: &mut Stage) -> Result<()> {
    stage.fault("restart brokers 0, 1 and 2, one after the other");
    for broker in 0..3 {
        let brokers = stage.kafka.three()?;
        brokers.stop(broker)?;
        brokers.restart(broker).with_context(|| format!("broker {broker}"))?;
        wait_back(stage)?;
    }
    stage.fault_over();
    Ok(())
}

fn kill(stage: &mut Stage, victims: &[usize], down: Duration) -> Result<()> {
    stage.fault(&format!("kill brokers {victims:?} for {} ms", down.as_millis()));
    let brokers = stage.kafka.three()?;
    for victim in victims {
        brokers.kill(*victim);
        ensure!(!brokers.is_alive(*victim), "broker {victim} survived SIGKILL");
    }
    let_pass(down);
    for victim in victims {
        brokers.restart(*victim).with_context(|| format!("broker {victim}"))?;
    }
    Ok(())
}
