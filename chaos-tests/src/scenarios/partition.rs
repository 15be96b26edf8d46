//! Packets vanish. Each node lives in a network namespace of its own, where iptables drops what is to be dropped without
//! telling anybody: connections stay open and hear nothing. The owner is cut off from its peers, from Kafka, from the
//! feed or from its standby; a node hears nobody, or is heard by nobody; the leader ends up alone; all links flap.
//! Two sides must never both write, a minority must refuse, nothing may be lost, and all must be well after the heal.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    harness::{
        Admin,
        firewall::{Cut, Direction, Peer},
        let_pass,
        network::{Host, Network},
        wait_for,
    },
    invariants::Invariant,
    stage::{Roles, Stage, StageOptions},
    story::{Facts, Story},
};

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partition {
    /// The owner still has Kafka and its feed: a zombie that writes as long as Kafka lets it.
    OwnerFromPeers,
    OwnerFromKafka,
    OwnerFromFeed,
    /// Both are alive for everybody else.
    OwnerFromStandby,
    /// A node that hears no peer, and is heard.
    Deaf,
    /// A node that no peer hears, and that hears.
    Mute,
    /// The leader owns the stream and is alone.
    LeaderAlone,
    /// All links between nodes come and go.
    FlappingMesh,
}

const LASTS_MS: std::ops::RangeInclusive<u64> = 4_000..=12_000;
/// A dead feed connection is found within this (interval of pings and patience with the answer), milliseconds.
const PING_MS: u64 = 1_500;
const FLAPS_FOR: Duration = Duration::from_secs(20);
const FLAP_MS: std::ops::RangeInclusive<u64> = 500..=5_000;

impl Story for Partition {
    fn facts(&self) -> Facts {
        let (name, rows, tells): (_, &'static [u8], _) = match self {
            Self::OwnerFromPeers => {
                ("isolate-owner-from-peers", &[10], "the owner is cut off from its peers, and keeps Kafka and feed")
            }
            Self::OwnerFromKafka => {
                ("isolate-owner-from-kafka", &[11, 18], "the owner's connections to Kafka are half-open")
            }
            Self::OwnerFromFeed => {
                ("isolate-owner-from-feed", &[12, 18], "the owner's connection to the feed is half-open")
            }
            Self::OwnerFromStandby => {
                ("isolate-owner-from-standby", &[18], "the connections between owner and standby are half-open")
            }
            Self::Deaf => ("one-way-deaf", &[13], "a node hears none of its peers, which hear it"),
            Self::Mute => ("one-way-mute", &[13], "a node is heard by none of its peers, and hears them"),
            Self::LeaderAlone => ("leader-in-minority", &[14], "the leader owns the stream and is cut off alone"),
            Self::FlappingMesh => ("flapping-mesh", &[15], "links between nodes come and go for 20 s"),
        };
        let silence_ms_max = match self {
            Self::OwnerFromFeed | Self::OwnerFromStandby => Some(1_000),
            Self::FlappingMesh => None,
            _ => Some(2_500),
        };
        // Several faults at once may lose what only the wrong side had, and have to say so.
        let invariants = if *self == Self::FlappingMesh { Invariant::REPORTED } else { Invariant::ALL };
        // A second replacement of an owner that lives is held back: it must not flap.
        let faults_per_stage = if *self == Self::OwnerFromKafka { 1 } else { 5 };
        Facts { silence_ms_max, invariants, faults_per_stage, needs_root: true, ..Facts::new(name, rows, tells) }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        // Only where it is needed: on a busy machine, a feed that is late with its pongs would be a fault of its own.
        let keys = ["twinfeed.websocket.ping.interval.ms", "twinfeed.websocket.pong.timeout.ms"];
        let is_about_feed = *self == Self::OwnerFromFeed;
        let connector = keys.into_iter().filter(|_| is_about_feed).map(|key| (key, PING_MS.to_string())).collect();
        Ok(StageOptions { network: true, connector, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        if *self == Self::FlappingMesh {
            return flap(stage, random);
        }
        if *self == Self::LeaderAlone {
            let leader = stage.cluster.leader()?;
            if stage.roles()?.owner != leader {
                stage.move_to(&leader)?;
            }
        }
        let roles = stage.roles()?;
        let victim = self.victim(stage, &roles, random)?;
        let network = stage.network()?;
        let cuts = self.cuts(stage, &network, &roles, &victim)?;
        let lasts = Duration::from_millis(random.random_range(LASTS_MS)).max(self.lasts_min());
        let admin = stage.cluster.node(&victim)?.admin.clone();
        stage.cluster.admin.ask_last(&admin);
        stage.wait_traffic()?;
        stage.fault(&format!("{} {victim} for {} ms", self.facts().name, lasts.as_millis()));
        let (host, began) = (network.host(&victim)?, Instant::now());
        cuts.iter().try_for_each(|cut| host.cut(*cut))?;
        self.watch(stage, &roles, &victim);
        let_pass(lasts.saturating_sub(began.elapsed()));
        ensure!(host.heal()? > 0, "no packet was dropped: nothing was cut");
        Ok(())
    }
}

impl Partition {
    /// Long enough for what must happen meanwhile.
    fn lasts_min(self) -> Duration {
        Duration::from_millis(if self == Self::OwnerFromFeed { 4 * PING_MS } else { 0 })
    }

    fn victim(self, stage: &Stage, roles: &Roles, random: &mut StdRng) -> Result<String> {
        if !matches!(self, Self::Deaf | Self::Mute) {
            return Ok(roles.owner.clone());
        }
        let names: Vec<&String> = stage.cluster.nodes.iter().map(|node| &node.name).collect();
        Ok((*names.choose(random).context("no nodes")?).clone())
    }

    fn cuts(self, stage: &Stage, network: &Network, roles: &Roles, victim: &str) -> Result<Vec<Cut>> {
        let peers = || network.hosts().iter().filter(|host| host.name() != victim).map(Peer::from);
        let towards = |direction| peers().map(|peer| Cut { direction, ..Cut::both(peer) }).collect();
        Ok(match self {
            Self::OwnerFromPeers | Self::LeaderAlone => towards(Direction::Both),
            Self::Deaf => towards(Direction::In),
            Self::Mute => towards(Direction::Out),
            Self::OwnerFromKafka => stage.kafka.addresses()?.into_iter().map(Cut::both).collect(),
            Self::OwnerFromFeed => vec![Cut::both(stage.feed.address.parse::<std::net::SocketAddr>()?)],
            Self::OwnerFromStandby => vec![Cut::both(network.host(&roles.standby)?)],
            Self::FlappingMesh => Vec::new(),
        })
    }

    /// What must happen while the cut lasts.
    fn watch(self, stage: &mut Stage, roles: &Roles, victim: &str) {
        match self {
            Self::OwnerFromPeers | Self::OwnerFromKafka | Self::LeaderAlone => {
                if let Err(error) = stage.wait_new_owner(roles.epoch) {
                    stage.found(format!("{victim} was cut off and not replaced: {}", error.root_cause()));
                }
            }
            Self::OwnerFromFeed => {
                let since = stage.seen.faults.last().map_or(0, |fault| fault.at_ms);
                let lost = wait_for("the loss of the subscription", Duration::from_millis(4 * PING_MS), || {
                    let events = stage.cluster.admin.events().ok()?;
                    let its = |e: &&crate::harness::EventLine| e.kind == "subscription.lost" && e.node == victim;
                    events.iter().filter(its).find(|e| e.at_ms >= since).map(drop)
                });
                if let Err(error) = lost {
                    stage.found(format!("a half-open feed was not noticed: {error}"));
                }
            }
            _ => {}
        }
        if self == Self::LeaderAlone {
            self.ask_minority(stage, victim);
        }
    }

    /// A leader without its quorum must not acknowledge a change.
    fn ask_minority(self, stage: &mut Stage, victim: &str) {
        let config = [("websocket.url", stage.feed.url("a")), ("kafka.topic", format!("{}-ghost", stage.topic))];
        let alone = stage.cluster.node(victim).and_then(|node| Admin::new(vec![node.admin.clone()]));
        let created = alone.and_then(|admin| admin.create("ghost", &config));
        if created.is_ok() {
            stage.found(format!("{victim}, alone, acknowledged a new connector"));
        }
        if stage.cluster.admin.connector("ghost").is_ok() {
            stage.found("the majority knows a connector that only the minority was asked for".to_owned());
        }
    }
}

fn flap(stage: &mut Stage, random: &mut StdRng) -> Result<()> {
    let network = stage.network()?;
    stage.wait_traffic()?;
    stage.fault("links between nodes flap");
    let (began, mut dropped) = (Instant::now(), 0);
    while began.elapsed() < FLAPS_FOR {
        let cut = |from: &Host, to: &Host| from.cut(Cut::both(to));
        for (n, from) in network.hosts().iter().enumerate() {
            for to in &network.hosts()[n + 1..] {
                if random.random_bool(0.5) {
                    cut(from, to)?;
                }
            }
        }
        let_pass(Duration::from_millis(random.random_range(FLAP_MS)));
        dropped += network.heal()?;
        let_pass(Duration::from_millis(random.random_range(FLAP_MS) / 2));
    }
    ensure!(dropped > 0, "no packet was dropped: nothing was cut");
    Ok(())
}
