//! Wire messages to values and back; pure. Both ends are of one release or its neighbour. A message of a kind that this one does
//! not know ends the session: skipping it would be a hole that nobody sees, as the next one confirms it.

use twinfeed_dedup::{Ack, Fingerprint, RecordId, Resolved, SubscriptionId, ToStandby};
use twinfeed_proto::internal::{
    self as wire, AllSent, FrameBatch, NextIndex, OwnerGreet, OwnerQuestion, OwnerWelcome, PartitionOffset,
    RelayedFrame, ResolvedFrames, StandbyHello, SubscriptionChanged, SurplusSnapshot, UnseenRecord, owner_message,
    standby_message,
};

use crate::model::{
    frame::{Frame, FrameKind},
    relay::{OwnerMessage, StandbyMessage},
};

pub(super) fn standby_to_wire(
    message: StandbyMessage,
    hello: impl FnOnce(u64) -> StandbyHello,
) -> wire::StandbyMessage {
    use standby_message::Kind;
    let kind = match message {
        StandbyMessage::Hello { incarnation } => Kind::Hello(hello(incarnation)),
        StandbyMessage::ReceivedThrough(number) => Kind::ReceivedThrough(number),
        StandbyMessage::AllSent { asked_at_ms } => Kind::AllSent(AllSent { asked_at_ms }),
        StandbyMessage::Subscription(subscription) => {
            Kind::Subscription(SubscriptionChanged { subscription: subscription.unwrap_or(0) })
        }
        StandbyMessage::Frames { subscription, first_index, frames } => {
            let frames = frames
                .into_iter()
                .map(|frame| RelayedFrame {
                    payload: frame.payload,
                    binary: frame.kind == FrameKind::Binary,
                    received_at_ns: frame.received_at_ns,
                })
                .collect();
            Kind::Frames(FrameBatch { subscription, first_index, frames })
        }
    };
    wire::StandbyMessage { kind: Some(kind) }
}

/// None: of an unknown kind.
pub(super) fn standby_from_wire(message: wire::StandbyMessage) -> Option<StandbyMessage> {
    use standby_message::Kind;
    Some(match message.kind? {
        Kind::Hello(hello) => StandbyMessage::Hello { incarnation: hello.incarnation },
        Kind::ReceivedThrough(number) => StandbyMessage::ReceivedThrough(number),
        Kind::AllSent(AllSent { asked_at_ms }) => StandbyMessage::AllSent { asked_at_ms },
        Kind::Subscription(changed) => {
            StandbyMessage::Subscription((changed.subscription != 0).then_some(changed.subscription))
        }
        Kind::Frames(batch) => StandbyMessage::Frames {
            subscription: batch.subscription,
            first_index: batch.first_index,
            frames: batch
                .frames
                .into_iter()
                .map(|frame| Frame {
                    kind: if frame.binary { FrameKind::Binary } else { FrameKind::Text },
                    payload: frame.payload,
                    received_at_ns: frame.received_at_ns,
                })
                .collect(),
        },
    })
}

pub(super) fn owner_to_wire(message: OwnerMessage) -> wire::OwnerMessage {
    use owner_message::Kind;
    match message {
        OwnerMessage::Welcome { next } => {
            let next = next.into_iter().map(|(subscription, index)| NextIndex { subscription, index }).collect();
            wire::OwnerMessage { number: 0, kind: Some(Kind::Welcome(OwnerWelcome { next })) }
        }
        OwnerMessage::Greet => wire::OwnerMessage { number: 0, kind: Some(Kind::Greet(OwnerGreet {})) },
        OwnerMessage::Question { asked_at_ms, subscription, behind_ms } => {
            let question = OwnerQuestion { asked_at_ms, subscription, behind_ms };
            wire::OwnerMessage { number: 0, kind: Some(Kind::Question(question)) }
        }
        OwnerMessage::Merge { number, committed, message } => {
            let committed =
                committed.into_iter().map(|(partition, offset)| PartitionOffset { partition, offset }).collect();
            let kind = match message {
                ToStandby::Surplus { subscription, snapshot } => Kind::Surplus(SurplusSnapshot {
                    subscription: subscription.0,
                    snapshot: snapshot.into(),
                    committed,
                }),
                ToStandby::Ack(ack) => Kind::Ack(ack_to_wire(ack, committed)),
            };
            wire::OwnerMessage { number, kind: Some(kind) }
        }
    }
}

fn ack_to_wire(ack: Ack, committed: Vec<PartitionOffset>) -> wire::Ack {
    let unseen = ack
        .unseen
        .into_iter()
        .map(|(record, fingerprint)| UnseenRecord {
            epoch: record.epoch,
            sequence: record.sequence,
            fingerprint_high: (fingerprint.as_u128() >> 64) as u64,
            fingerprint_low: fingerprint.as_u128() as u64,
        })
        .collect();
    let mut resolved: Vec<ResolvedFrames> = Vec::new();
    for frame in ack.resolved {
        if resolved.last().is_none_or(|group| group.subscription != frame.subscription.0) {
            resolved.push(ResolvedFrames { subscription: frame.subscription.0, ..Default::default() });
        }
        if let Some(group) = resolved.last_mut() {
            group.indices.push(frame.index);
            group.record_epochs.push(frame.record.epoch);
            group.record_sequences.push(frame.record.sequence);
        }
    }
    wire::Ack {
        committed,
        subscription: ack.subscription.0,
        unseen,
        resolved,
        redundant: ack.redundant,
        aligned: ack.aligned,
    }
}

/// None: of an unknown kind.
pub(super) fn owner_from_wire(message: wire::OwnerMessage) -> Option<OwnerMessage> {
    use owner_message::Kind;
    let number = message.number;
    let offsets = |list: Vec<PartitionOffset>| list.into_iter().map(|p| (p.partition, p.offset)).collect();
    Some(match message.kind? {
        Kind::Welcome(welcome) => {
            OwnerMessage::Welcome { next: welcome.next.into_iter().map(|n| (n.subscription, n.index)).collect() }
        }
        Kind::Greet(OwnerGreet {}) => OwnerMessage::Greet,
        Kind::Question(OwnerQuestion { asked_at_ms, subscription, behind_ms }) => {
            OwnerMessage::Question { asked_at_ms, subscription, behind_ms }
        }
        Kind::Surplus(surplus) => OwnerMessage::Merge {
            number,
            committed: offsets(surplus.committed),
            message: ToStandby::Surplus {
                subscription: SubscriptionId(surplus.subscription),
                snapshot: surplus.snapshot.into(),
            },
        },
        Kind::Ack(ack) => OwnerMessage::Merge {
            number,
            committed: offsets(ack.committed),
            message: ToStandby::Ack(Ack {
                subscription: SubscriptionId(ack.subscription),
                unseen: ack.unseen.into_iter().map(unseen_from_wire).collect(),
                resolved: ack.resolved.into_iter().flat_map(resolved_from_wire).collect(),
                aligned: ack.aligned,
                redundant: ack.redundant,
            }),
        },
    })
}

fn unseen_from_wire(unseen: UnseenRecord) -> (RecordId, Fingerprint) {
    let fingerprint = (u128::from(unseen.fingerprint_high) << 64) | u128::from(unseen.fingerprint_low);
    (RecordId { epoch: unseen.epoch, sequence: unseen.sequence }, Fingerprint::from_u128(fingerprint))
}

fn resolved_from_wire(group: ResolvedFrames) -> impl Iterator<Item = Resolved> {
    let subscription = SubscriptionId(group.subscription);
    group
        .indices
        .into_iter()
        .zip(group.record_epochs)
        .zip(group.record_sequences)
        .map(move |((index, epoch), sequence)| Resolved { subscription, index, record: RecordId { epoch, sequence } })
}
