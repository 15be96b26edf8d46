//! The stories, one file each, told in its doc comment. Who runs one decides how often: the test suite a few times,
//! `chaos NAME --runs N` as often as one likes.

mod admin_linearizable;
mod bad_store;
mod brokers;
mod calm;
mod captures;
mod clock_jump;
mod commit_unanswered;
mod composition;
mod feed_shape;
mod feeds_down;
mod flapping_feed;
mod give_up;
mod interleaved;
mod kafka_down;
mod kill;
mod kill_at_point;
mod kill_in_takeover;
mod late_requests;
mod many_streams;
mod member_replaced;
mod partition;
mod pause;
mod planned;
mod poor_network;
mod power_cut;
mod retry_after;
mod rolling_restart;
mod shared_topic;
mod sick_disk;
mod silent_line;
mod topic_deleted;
mod unaligned;
mod zombie;

use crate::story::Story;

/// All stories, in the order of the fault matrix, measurements last.
pub const ALL: &[&dyn Story] = &[
    &kill::Kill::Owner,
    &kill::Kill::Standby,
    &kill::Kill::Leader,
    &kill::Kill::OwnerAndLeader,
    &admin_linearizable::AdminLinearizable,
    &kill_at_point::KillAtPoint::Owner,
    &kill_at_point::KillAtPoint::Standby,
    &kill_in_takeover::KillInTakeover,
    &pause::Pause::Owner,
    &zombie::Zombie::MidTransaction,
    &zombie::Zombie::BeforeInit,
    &pause::Pause::Standby,
    &pause::Pause::Leader,
    &partition::Partition::OwnerFromPeers,
    &partition::Partition::OwnerFromKafka,
    &partition::Partition::OwnerFromFeed,
    &partition::Partition::OwnerFromStandby,
    &partition::Partition::Deaf,
    &partition::Partition::Mute,
    &partition::Partition::LeaderAlone,
    &partition::Partition::FlappingMesh,
    &poor_network::PoorNetwork::Slow,
    &poor_network::PoorNetwork::Lossy,
    &brokers::Brokers::Killed,
    &brokers::Brokers::Rolled,
    &brokers::Brokers::CoordinatorKilled,
    &brokers::Brokers::CoordinatorFrozen,
    &commit_unanswered::CommitUnanswered,
    &late_requests::LateRequests::Produce,
    &late_requests::LateRequests::EndTxn,
    &late_requests::LateRequests::InitProducerId,
    &kafka_down::KafkaDown::Killed,
    &kafka_down::KafkaDown::Frozen,
    &brokers::Brokers::TooFew,
    &topic_deleted::TopicDeleted,
    &flapping_feed::FlappingFeed,
    &feeds_down::FeedsDown,
    &feed_shape::FeedShape::Skewed,
    &feed_shape::FeedShape::Backfilling,
    &feed_shape::FeedShape::Repeating,
    &feed_shape::FeedShape::Shuffled,
    &interleaved::KillOwnerInterleaved,
    &captures::Captures,
    &clock_jump::ClockJump,
    &sick_disk::SickDisk::Full,
    &sick_disk::SickDisk::SyncError,
    &power_cut::PowerCut::One,
    &power_cut::PowerCut::All,
    &bad_store::BadStore::Corrupt,
    &planned::Planned::Move,
    &planned::Planned::Restart,
    &planned::Planned::Configuration,
    &planned::Planned::BadConfiguration,
    &planned::Planned::KillInChangeover,
    &rolling_restart::RollingRestart,
    &bad_store::BadStore::WithoutLog,
    &bad_store::BadStore::Empty,
    &member_replaced::MemberReplaced,
    &composition::Composition,
    &silent_line::SilentLine::Owner,
    &silent_line::SilentLine::Standby,
    &silent_line::SilentLine::Channel,
    &silent_line::SilentLine::Honest,
    &shared_topic::SharedTopic,
    &unaligned::Unaligned::LeastMemory,
    &unaligned::Unaligned::LargeMessages,
    &give_up::GiveUp,
    &retry_after::RetryAfter,
    &calm::Calm::Latency,
    &calm::Calm::Throughput,
    &many_streams::ManyStreams,
];

/// The story of this name.
///
/// # Errors
/// When there is none; the error lists all.
pub fn find(name: &str) -> anyhow::Result<&'static dyn Story> {
    let names = || ALL.iter().map(|story| story.facts().name).collect::<Vec<_>>().join(", ");
    let found = ALL.iter().find(|story| story.facts().name == name);
    found.copied().ok_or_else(|| anyhow::anyhow!("no story `{name}`; known: {}", names()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_row_has_a_story() {
        let names: BTreeSet<&str> = ALL.iter().map(|story| story.facts().name).collect();
        assert_eq!(names.len(), ALL.len());
        let told: BTreeSet<u8> = ALL.iter().flat_map(|story| story.facts().rows).copied().collect();
        let wanted = (1..=37).chain(40..=45);
        assert_eq!(wanted.filter(|row| !told.contains(row)).collect::<Vec<u8>>(), Vec::<u8>::new());
    }
}
