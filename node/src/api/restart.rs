//! Whether a connector can begin anew without an interruption, and when it had better not. Pure.

use twinfeed_proto::admin::ConnectorState;

use super::condition::{Condition, STALL_SHOWN_MS_MIN, Scene};
use crate::model::connector::{Connector, TargetState};

/// How a connector begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// The standby first, then the owner, after they have changed places.
    Rolling,
    /// Both: nothing is there that could be interrupted or forgotten, or nobody to go on meanwhile.
    AtOnce,
}

/// Judges a restart that is not forced.
///
/// # Errors
/// Why it would lose messages, in words: the standby forgets what it holds when it begins anew, which nobody else may have.
pub(super) fn judge(scene: &Scene, connector: &Connector) -> Result<Restart, String> {
    let condition = Condition::of(scene, connector);
    let running = connector.target == TargetState::Running && condition.state != ConnectorState::Failed;
    let Some(now) = condition.assignment.filter(|_| running) else { return Ok(Restart::AtOnce) };
    let Some(standby) = now.standby else { return Ok(Restart::AtOnce) };
    let (owner_name, standby_name) = (scene.node_name(now.owner), scene.node_name(standby));
    if !scene.may_be_up(now.owner) {
        return Err(format!("owner {owner_name} does not answer, and {standby_name} may hold what nobody else has"));
    }
    // One that is starting holds nothing yet.
    let Some(owner) = condition.owner else { return Ok(Restart::Rolling) };
    if owner.trouble.is_some() || owner.stalled_ms >= STALL_SHOWN_MS_MIN {
        return Err(format!("{owner_name} waits for Kafka, and {standby_name} keeps what waits as well"));
    }
    let standby_reads = condition.standby.is_some_and(|standby| standby.subscription.connected);
    match (owner.subscription.connected, standby_reads) {
        (true, _) => Ok(Restart::Rolling),
        (false, true) => Err(format!("only {standby_name} reads the feed now")),
        (false, false) if owner.unacked_records + owner.retained_frames > 0 => Ok(Restart::Rolling),
        (false, false) => Ok(Restart::AtOnce),
    }
}
