//! Label values of the metrics: closed sets, so that a metric can never grow with what a feed or a client sends.
//! Rooms name them when they count; `metrics.rs` turns them into series.

/// Which subscription of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedSide {
    Primary,
    Secondary,
}

/// Why a frame will never be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    QueueFull,
    Oversize,
    Decode,
    Filtered,
}

/// Why a connection ended or was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconnectReason {
    /// TCP, TLS or name resolution failed.
    Connect,
    /// The server refused the upgrade or answered garbage.
    Handshake,
    /// The server closed or reset the connection.
    Closed,
    /// Nothing came for longer than the idle or pong timeout.
    Idle,
    /// A frame broke the protocol.
    Protocol,
    /// A message was larger than the bound.
    Oversize,
    /// An operator restarted the connector, or its configuration changed.
    Restart,
}

/// What changed hands in a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverKind {
    /// The owner's subscription ended and the standby's carries on.
    Feed,
    /// Another node became the owner.
    Node,
}

/// Why a failover happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverReason {
    OwnerDead,
    CannotDeliver,
    /// By an operator, a drain, or a stop of the owner's node.
    Requested,
}

/// A connector's state as shown to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateLabel {
    Running,
    Paused,
    Stopped,
    Failed,
    Unassigned,
    Starting,
}

impl FeedSide {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }
}

impl DropReason {
    pub(super) const ALL: [Self; 4] = [Self::QueueFull, Self::Oversize, Self::Decode, Self::Filtered];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Oversize => "oversize",
            Self::Decode => "decode",
            Self::Filtered => "filtered",
        }
    }
}

impl ReconnectReason {
    pub(super) const ALL: [Self; 7] =
        [Self::Connect, Self::Handshake, Self::Closed, Self::Idle, Self::Protocol, Self::Oversize, Self::Restart];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::Protocol => "protocol",
            Self::Oversize => "oversize",
            Self::Restart => "restart",
        }
    }
}

impl FailoverKind {
    pub(super) const ALL: [Self; 2] = [Self::Feed, Self::Node];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Node => "node",
        }
    }
}

impl FailoverReason {
    pub(super) const ALL: [Self; 3] = [Self::OwnerDead, Self::CannotDeliver, Self::Requested];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::OwnerDead => "owner_dead",
            Self::CannotDeliver => "cannot_deliver",
            Self::Requested => "requested",
        }
    }
}

impl StateLabel {
    pub(super) const ALL: [Self; 6] =
        [Self::Running, Self::Paused, Self::Stopped, Self::Failed, Self::Unassigned, Self::Starting];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Stopped => "STOPPED",
            Self::Failed => "FAILED",
            Self::Unassigned => "UNASSIGNED",
            Self::Starting => "STARTING",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_sits_at_its_own_index() {
        assert!(DropReason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert!(ReconnectReason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert!(FailoverKind::ALL.iter().enumerate().all(|(index, kind)| *kind as usize == index));
        assert!(FailoverReason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert!(StateLabel::ALL.iter().enumerate().all(|(index, state)| *state as usize == index));
    }
}
