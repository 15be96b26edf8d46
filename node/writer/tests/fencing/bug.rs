//! The rules that a run can leave out, one at a time, and the weather in which each is missed.

/// A rule of the protocol that a run leaves out, to see that the simulation notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// Every epoch has its own `transactional.id`, so that nobody fences anybody.
    NoFencing,
    /// The assignment is confirmed before the init instead of after it.
    CheckBeforeInit,
    /// An ack for one frame stands for all frames before it.
    PrefixAcks,
    /// The owner resolves a frame as soon as it has it.
    ReleaseBeforeCommit,
    /// A commit without an outcome counts as one.
    UnknownIsSuccess,
    /// A batch without an outcome is written again without a look at the tail.
    RetryWithoutTail,
    /// A takeover does not read what the old owner had written.
    NoTailAtTakeover,
    /// A takeover reads from the last ack on, also where its line has no place yet, so that the ack says nothing of it.
    TailFromLastAck,
    /// A standby that loses its owner takes over by itself.
    SelfPromotion,
    /// A producer goes on after a commit that was slow enough to hide a second attempt.
    NoRecycle,
    /// A message to the standby carries the offsets of a commit that its own content does not know of.
    LateStamps,
    /// A standby that its owner has forgotten takes the owner's new messages for old ones.
    OldNumbers,
    /// A commit counts when it is answered, not when its marker is in the topic.
    AckBeforeMarker,
    /// A new producer reads the tail and commits without a look whether something is open before its first records.
    NoLookBefore,
    /// The tail does not tell streams apart: a takeover takes the records of others for its own.
    MixedStreams,
    /// The tail ends at the first open transaction, though it is another stream's.
    TailEndsEarly,
    /// A line that gives up ends its stream, though the twin goes on.
    GiveUpEndsStream,
    /// A stream that comes to its writer again has the writer's epoch, under which it has written before.
    OldEpochAgain,
    /// A feed's inbox that is full drops frames, where the socket should not be read.
    FullInboxDrops,
}

impl Bug {
    /// It shows where a marker is forgotten, and nowhere else.
    pub(super) fn is_about_markers(self) -> bool {
        matches!(self, Self::AckBeforeMarker | Self::NoLookBefore)
    }

    /// It shows where connections to Kafka break often.
    pub(super) fn is_about_storms(self) -> bool {
        matches!(self, Self::NoRecycle | Self::LateStamps | Self::UnknownIsSuccess | Self::RetryWithoutTail)
    }

    /// It shows where streams leave their writer and come again.
    pub(super) fn is_about_comings(self) -> bool {
        self == Self::OldEpochAgain
    }

    /// It shows where several writers share a topic.
    pub(super) fn is_about_writers(self) -> bool {
        self == Self::TailEndsEarly
    }

    /// It shows where several streams share a topic.
    pub(super) fn is_about_streams(self) -> bool {
        matches!(self, Self::MixedStreams | Self::TailEndsEarly | Self::OldEpochAgain)
    }
}
