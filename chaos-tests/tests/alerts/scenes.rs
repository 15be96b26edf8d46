//! The scenes: what is done, and which alerts that must bring. What is not named stays quiet, for every connector.

use std::time::Duration;

use anyhow::Result;
use twinfeed_chaos::harness::{Feed, FeedOptions, let_pass, wait_for};
use twinfeed_proto::admin::ConnectorState;

use super::{
    house::{HOST, House, LONE, NARROW, PRICES, QUIET as QUIET_FEED},
    rules::Expected,
};

type Act = fn(&mut House) -> Result<()>;

/// One kind of trouble, or of everyday work.
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// Before anybody looks.
    pub(super) prepare: Act,
    pub(super) fault: Act,
    /// How long it is watched after the fault, in seconds.
    pub(super) watched: u64,
    /// So many of its last seconds go on.
    pub(super) lasting: u64,
    pub(super) mend: Act,
    pub(super) expected: Expected,
}

const QUIET: Expected = Expected { soon: &[], late: &[], passing: &[] };
/// Seconds that show what a steady state is like.
const LASTING_S: u64 = 3;
/// And until what a fault has brought is there.
const WATCHED_S: u64 = 5;
/// More changes of leader than bring no alert.
const HANGS: usize = 4;
const STEP_MAX: Duration = Duration::from_secs(30);

const fn scene(name: &'static str, fault: Act, expected: Expected) -> Scene {
    Scene { name, prepare: nothing, fault, watched: WATCHED_S, lasting: LASTING_S, mend: nothing, expected }
}

fn nothing(_: &mut House) -> Result<()> {
    Ok(())
}

pub(super) const ALL: &[Scene] = &[
    scene("everything-is-well", nothing, QUIET),
    scene("roles-change-as-planned", roles_change, QUIET),
    scene("one-is-paused-and-one-deleted", paused_and_deleted, QUIET),
    // What the feed has sent meanwhile is missing, and that is told.
    scene("stopped-and-resumed", stopped_and_resumed, Expected { soon: &["GapReported prices"], ..QUIET }),
    Scene { mend: undrain, ..scene("a-drain", drain, QUIET) },
    Scene { prepare: spare_owner, mend: House::revive, ..scene("the-owner-is-killed", kill_owner, ONE_DOWN) },
    Scene {
        prepare: leader_owns,
        mend: House::revive,
        ..scene("the-leader-that-owns-is-killed", kill_owner, ONE_DOWN)
    },
    Scene {
        prepare: spare_owner,
        mend: revive_and_lines_up,
        ..scene("a-takeover-without-redundancy", kill_owner_without_standby, GAP)
    },
    Scene { watched: 7, lasting: 5, mend: lines_up, ..scene("the-standbys-line-is-down", standby_line_down, ONE_LINE) },
    Scene { watched: 7, lasting: 5, mend: lines_up, ..scene("both-lines-are-down", both_lines_down, NO_LINE) },
    Scene { watched: 10, mend: lines_up, ..scene("the-owners-line-is-silent", owner_line_silent, SILENT_LINE) },
    Scene { watched: 11, mend: lines_up, ..scene("a-line-leaves-some-out", line_lacks, LACKING) },
    Scene { mend: |house| house.feed.resume(), ..scene("the-feed-falls-silent", feed_silent, SILENT_FEED) },
    Scene { mend: topicless_is_deleted, ..scene("connectors-that-have-failed", failed, FAILED) },
    Scene { prepare: bulk, mend: thaw, ..scene("kafka-hangs", kafka_hangs, HANGING) },
    Scene { watched: 0, lasting: 8, ..scene("commits-are-slow", slow_commits, SLOW) },
    scene("a-stranger-writes-in-its-place", fence_twice, FENCED),
    scene("leaders-hang-again-and-again", hang_often, FLAPPING),
    Scene { prepare: only_prices, mend: House::revive, ..scene("no-majority", two_down, NO_MAJORITY) },
];

/// A node is gone: its target and the cluster's reserve.
const ONE_DOWN: Expected = Expected {
    soon: &["ConnectorDown", "RaftQuorumAtRisk"],
    late: &["ConnectorDown", "RaftQuorumAtRisk"],
    passing: &[],
};
const GAP: Expected = Expected {
    soon: &["ConnectorDown", "RaftQuorumAtRisk", "GapReported prices"],
    // Of the line that was down before.
    passing: &["FrequentReconnections prices secondary"],
    ..ONE_DOWN
};
const ONE_LINE: Expected = Expected {
    soon: &["FeedRedundancyLost prices", "FrequentReconnections prices secondary"],
    late: &["FeedRedundancyLost prices", "FrequentReconnections prices secondary", "StreamAtRisk prices"],
    passing: &[],
};
const NO_LINE: Expected = Expected {
    soon: &[
        "ConnectorNotRunning prices",
        "FeedRedundancyLost prices",
        "FrequentReconnections prices primary",
        "FrequentReconnections prices secondary",
        "WebSocketDisconnected prices",
    ],
    late: &[
        "ConnectorNotRunning prices",
        "FeedRedundancyLost prices",
        "FrequentReconnections prices primary",
        "FrequentReconnections prices secondary",
        "LowThroughput prices",
        "NoMessagesReceived prices",
        "StaleFeed prices",
        "StreamAtRisk prices",
        "WebSocketDisconnected prices",
    ],
    passing: &[],
};
const SILENT_LINE: Expected = Expected {
    soon: &["LineBehind prices primary"],
    late: &["LineBehind prices primary", "StreamAtRisk prices"],
    // Only the other has had the messages of the last minute.
    passing: &["FeedLinesDiffer prices secondary", "FrequentReconnections prices primary"],
};
const LACKING: Expected = Expected {
    soon: &[],
    late: &["FeedLinesDiffer prices primary"],
    // It is behind, connected anew and behind again, by turns.
    passing: &["LineBehind prices secondary", "StreamAtRisk prices", "FrequentReconnections prices secondary"],
};
const SILENT_FEED: Expected = Expected {
    soon: &[],
    late: &[
        "LowThroughput lone",
        "LowThroughput narrow",
        "LowThroughput prices",
        "NoMessagesReceived lone",
        "NoMessagesReceived narrow",
        "NoMessagesReceived prices",
        "StaleFeed lone",
        "StaleFeed narrow",
        "StaleFeed prices",
    ],
    passing: &[],
};
const FAILED: Expected = Expected {
    soon: &[
        "ConnectorNotRunning prices",
        "ConnectorNotRunning topicless",
        "FeedRedundancyLost prices",
        "WebSocketDisconnected prices",
    ],
    late: &[
        "ConnectorNotRunning prices",
        "ConnectorNotRunning topicless",
        "FeedRedundancyLost prices",
        "LowThroughput prices",
        "NoMessagesReceived prices",
        "StaleFeed prices",
        "StreamAtRisk prices",
        "StreamAtRisk topicless",
        "WebSocketDisconnected prices",
    ],
    passing: &[],
};
const HANGING: Expected = Expected {
    soon: &[
        "ConnectorNotRunning bulk",
        "ConnectorNotRunning lone",
        "ConnectorNotRunning narrow",
        "ConnectorNotRunning prices",
        "QueueNearlyFull narrow",
    ],
    late: &[
        "ConnectorNotRunning bulk",
        "ConnectorNotRunning lone",
        "ConnectorNotRunning narrow",
        "ConnectorNotRunning prices",
        "HighMessageDropRate narrow",
        "HighProcessingLag bulk",
        "QueueNearlyFull narrow",
        "WriteRateLagging lone",
        "WriteRateLagging narrow",
        "WriteRateLagging prices",
    ],
    // The first of three thousand messages a second that the machine is late with.
    passing: &["GapReported narrow", "WriteRateLagging bulk"],
};
const SLOW: Expected = Expected {
    soon: &[],
    late: &["HighProcessingLatency lone", "HighProcessingLatency narrow", "HighProcessingLatency prices"],
    passing: &[],
};
const FENCED: Expected = Expected { soon: &["ProducerFenced prices"], ..QUIET };
const FLAPPING: Expected = Expected {
    soon: &["RaftLeaderFlapping"],
    late: &["RaftLeaderFlapping"],
    // Of whatever the frozen node owned; whether Kafka or the log tells the former owner first is chance.
    passing: &["ProducerFenced prices", "ProducerFenced narrow", "ProducerFenced quiet", "ProducerFenced lone"],
};
const NO_MAJORITY: Expected = Expected {
    soon: &["ConnectorDown", "FeedRedundancyLost prices", "RaftNoLeader", "RaftQuorumAtRisk"],
    late: &["ConnectorDown", "FeedRedundancyLost prices", "RaftNoLeader", "RaftQuorumAtRisk", "StreamAtRisk prices"],
    passing: &[],
};

/// A move, and then a new configuration: the standby takes it over first, then they change places.
fn roles_change(house: &mut House) -> Result<()> {
    let status = house.status(PRICES)?;
    house.cluster.admin.failover(PRICES, &status.standby)?;
    house.well()?;
    let epoch = house.status(PRICES)?.epoch;
    house.cluster.admin.configure(PRICES, &[("twinfeed.commit.interval.ms", "20".to_owned())])?;
    house.reaches(PRICES, |status| status.epoch > epoch)?;
    house.well()
}

fn paused_and_deleted(house: &mut House) -> Result<()> {
    house.cluster.admin.pause(PRICES)?;
    house.cluster.admin.delete(NARROW)
}

fn stopped_and_resumed(house: &mut House) -> Result<()> {
    house.cluster.admin.stop(PRICES)?;
    house.reaches(PRICES, |status| status.state() == ConnectorState::Stopped)?;
    house.seconds(2);
    house.cluster.admin.resume(PRICES)?;
    house.well()
}

fn drain(house: &mut House) -> Result<()> {
    let owner = house.status(PRICES)?.owner;
    house.cluster.admin.drain(&owner)?;
    house.well()
}

fn undrain(house: &mut House) -> Result<()> {
    let nodes: Vec<String> = house.cluster.nodes.iter().map(|node| node.name.clone()).collect();
    nodes.iter().try_for_each(|node| house.cluster.admin.undrain(node))
}

fn spare_owner(house: &mut House) -> Result<()> {
    let owner = house.status(PRICES)?.owner;
    house.spare(&owner)?;
    house.well()
}

fn leader_owns(house: &mut House) -> Result<()> {
    let leader = house.cluster.leader()?;
    house.move_to(&leader)?;
    spare_owner(house)
}

fn kill_owner(house: &mut House) -> Result<()> {
    let owner = house.status(PRICES)?.owner;
    house.kill(&owner)?;
    house.well()
}

fn kill_owner_without_standby(house: &mut House) -> Result<()> {
    let path = house.path(false)?;
    house.feed.down(&path)?;
    house.reaches(PRICES, |status| status.at_risk)?;
    house.seconds(1);
    let owner = house.status(PRICES)?.owner;
    house.kill(&owner)?;
    house.feed.up(&path)?;
    house.well()
}

fn revive_and_lines_up(house: &mut House) -> Result<()> {
    lines_up(house)?;
    house.revive()
}

fn lines_up(house: &mut House) -> Result<()> {
    ["a", "b"].iter().try_for_each(|path| house.feed.up(path).and_then(|()| house.feed.speak(path)))
}

fn standby_line_down(house: &mut House) -> Result<()> {
    house.feed.down(&house.path(false)?)?;
    house.reaches(PRICES, |status| status.at_risk)
}

fn both_lines_down(house: &mut House) -> Result<()> {
    ["a", "b"].iter().try_for_each(|path| house.feed.down(path))?;
    house.reaches(PRICES, |status| status.state() != ConnectorState::Running)
}

fn owner_line_silent(house: &mut House) -> Result<()> {
    house.feed.silence(&house.path(true)?)
}

fn line_lacks(house: &mut House) -> Result<()> {
    house.feed.lack(&house.path(false)?, 4)
}

/// It was well, and a change of roles in the silence makes it no new one.
fn feed_silent(house: &mut House) -> Result<()> {
    house.feed.pause()?;
    house.seconds(3);
    let (standby, epoch) = {
        let status = house.status(PRICES)?;
        (status.standby, status.epoch)
    };
    house.cluster.admin.failover(PRICES, &standby)?;
    house.reaches(PRICES, |status| status.epoch > epoch)
}

/// One that may not reconnect is closed; another has no topic.
fn failed(house: &mut House) -> Result<()> {
    let lines = [house.feed.url("a"), house.feed.url("b")];
    house.create("topicless", lines, &[("kafka.topic", "never-made"), ("twinfeed.topic.create", "false")])?;
    house.cluster.admin.configure(PRICES, &[("websocket.reconnect.enabled", "false".to_owned())])?;
    house.seconds(1);
    house.well()?;
    ["a", "b"].iter().try_for_each(|path| house.feed.close(path))?;
    house.reaches(PRICES, |status| status.state() == ConnectorState::Failed)?;
    house.reaches("topicless", |status| status.state() == ConnectorState::Failed)
}

fn topicless_is_deleted(house: &mut House) -> Result<()> {
    house.cluster.admin.delete("topicless")
}

/// More than the others, so that what waits grows quickly.
fn bulk(house: &mut House) -> Result<()> {
    let options = FeedOptions { rate: Some(3_000), size_bytes: 50, ..FeedOptions::default() };
    let feed = Feed::start(house.cluster.dir(), HOST, &options)?;
    house.create("bulk", [feed.url("a"), feed.url("b")], &[])?;
    house.more.push(feed);
    house.cluster.wait_redundant("bulk").map(drop)
}

fn kafka_hangs(house: &mut House) -> Result<()> {
    house.kafka.one()?.pause()?;
    house.seconds(10);
    Ok(())
}

/// Kafka takes some seconds to come to itself; the next scene begins with one that answers.
fn thaw(house: &mut House) -> Result<()> {
    let before = house.status(PRICES)?.records_committed;
    house.kafka.one()?.resume()?;
    house.reaches(PRICES, |status| status.records_committed > before)?;
    house.cluster.admin.delete("bulk")
}

fn slow_commits(house: &mut House) -> Result<()> {
    for _ in 0..4 {
        house.kafka.one()?.pause()?;
        let_pass(Duration::from_millis(1_400));
        house.kafka.one()?.resume()?;
        let_pass(Duration::from_millis(1_100));
    }
    Ok(())
}

/// Once is no more than a takeover brings.
fn fence_twice(house: &mut House) -> Result<()> {
    house.fence(PRICES)?;
    house.fence(PRICES)
}

/// Long enough for another to lead and to own.
fn hang_often(house: &mut House) -> Result<()> {
    for _ in 0..HANGS {
        let leader = house.cluster.leader()?;
        house.move_to(&leader)?;
        let epoch = house.status(PRICES)?.epoch;
        house.cluster.pause(&leader)?;
        let others = house.reaches(PRICES, |status| status.epoch > epoch && status.owner != leader);
        house.cluster.resume(&leader)?;
        others?;
        house.cluster.wait_settled()?;
        house.cluster.wait_redundant(PRICES)?;
    }
    house.well()
}

fn only_prices(house: &mut House) -> Result<()> {
    [NARROW, QUIET_FEED, LONE].iter().try_for_each(|name| house.cluster.admin.delete(name))
}

fn two_down(house: &mut House) -> Result<()> {
    let owner = house.status(PRICES)?.owner;
    let others: Vec<String> =
        house.cluster.nodes.iter().map(|node| node.name.clone()).filter(|node| *node != owner).collect();
    others.iter().try_for_each(|node| house.cluster.kill(node))?;
    wait_for("nobody to lead", STEP_MAX, || {
        house.cluster.admin.status().ok().filter(|status| status.leader.is_empty()).map(drop)
    })
}
