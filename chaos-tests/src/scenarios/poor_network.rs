//! A network that works badly: the owner's links with its peers carry a fraction of what the relay needs, or a share of
//! a node's packets vanishes, to whomever they go. Connections stay, stall and catch up; nothing may be lost, doubled or
//! held without a bound, and the pair is redundant again when the network is well.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::{
        firewall::{Cut, Direction, Peer, Share},
        let_pass,
    },
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) enum PoorNetwork {
    /// A policer between the owner and its peers: what exceeds the rate is dropped.
    Slow,
    /// Loss in both directions, with everybody.
    Lossy,
}

const LASTS_MS: std::ops::RangeInclusive<u64> = 6_000..=12_000;
/// The relay of 5,000 messages of 200 bytes a second wants a megabyte.
const KILOBYTES_A_SECOND: std::ops::RangeInclusive<u32> = 16..=128;
/// An owner that Kafka answers too late is replaced after 1.8 s, by a leader that may itself hear badly, and the takeover
/// repeats what is lost on its way. Not to be silent for as long as the fault lasts is what this bounds.
const LOSSY_SILENCE_MS_MAX: u64 = 8_000;
const LOST_PERCENT: std::ops::RangeInclusive<u8> = 1..=30;

impl Story for PoorNetwork {
    fn facts(&self) -> Facts {
        let facts = match self {
            Self::Slow => Facts {
                silence_ms_max: Some(200),
                ..Facts::new("slow-peers", &[16], "the owner's links with its peers carry a fraction of the relay")
            },
            Self::Lossy => Facts {
                silence_ms_max: Some(LOSSY_SILENCE_MS_MAX),
                ..Facts::new("lossy-owner", &[17], "1 to 30 % of the owner's packets vanish, both ways")
            },
        };
        Facts { faults_per_stage: 5, needs_root: true, ..facts }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        Ok(StageOptions { network: true, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let roles = stage.roles()?;
        let network = stage.network()?;
        let (peers, share) = match self {
            Self::Slow => {
                let others = network.hosts().iter().filter(|host| host.name() != roles.owner).map(Peer::from);
                (others.collect(), Share::Above { kilobytes_a_second: random.random_range(KILOBYTES_A_SECOND) })
            }
            Self::Lossy => (vec![Peer::Anyone], Share::Percent(random.random_range(LOST_PERCENT))),
        };
        let lasts = Duration::from_millis(random.random_range(LASTS_MS));
        let admin = stage.cluster.node(&roles.owner)?.admin.clone();
        stage.cluster.admin.ask_last(&admin);
        stage.wait_traffic()?;
        stage.fault(&format!("{share:?} of {} for {} ms", roles.owner, lasts.as_millis()));
        let host = network.host(&roles.owner)?;
        peers.into_iter().try_for_each(|peer| host.cut(Cut { direction: Direction::Both, peer, share }))?;
        let_pass(lasts);
        ensure!(host.heal()? > 0, "no packet was dropped: the network was well");
        stage.fault_over();
        Ok(())
    }
}
