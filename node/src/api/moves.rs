//! Failover and drain: the operator's wish is one command; the coordinator carries it out, make before break. This
//! file only refuses wishes that cannot come true and waits until the new owner is seen to deliver.

use tokio::time::Instant;
use tonic::Status;
use twinfeed_proto::admin;

use super::{
    admin::Admin,
    admin_cluster::node_named,
    admin_connectors::show,
    condition::{Condition, Scene},
    status::{self, Subject, precondition},
};
use crate::model::{
    command::{Command, asked},
    connector::{Assignment, Redundancy, TargetState},
    ids::{NodeId, WriterId},
    report::Role,
};

/// A failover that may begin.
struct Move {
    writer: WriterId,
    from: Assignment,
    to: NodeId,
}

impl Admin {
    /// Moves the owner and returns when the new one delivers.
    pub(super) async fn failover(
        &self,
        request: admin::FailoverConnectorRequest,
        deadline: Instant,
    ) -> Result<admin::FailoverConnectorResponse, Status> {
        let scene = self.confirmed_scene().await?;
        let plan = plan(&scene, &request)?;
        let began = Instant::now();
        let subject = Subject::connector(&request.name);
        let wish = Command::WantOwner { writer: plan.writer.clone(), node: Some(plan.to) };
        let asked = asked(&("failover", &request.name, &request.to_node));
        self.change_as((&request.request_id, asked), wish, subject).await?;
        let Some(to_epoch) = self.settled(deadline, |scene| delivering(scene, &plan)).await else {
            return Err(self.give_up(&request.name, &plan).await);
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let scene = self.scene_after_change().await;
        Ok(admin::FailoverConnectorResponse {
            connector: Some(show(&scene, &request.name)?),
            from_node: scene.node_name(plan.from.owner),
            to_node: scene.node_name(plan.to),
            from_epoch: plan.from.epoch.0,
            to_epoch,
            duration_ms,
        })
    }

    /// Takes the wish back: a move that happens by surprise, long after everybody has gone home, helps nobody.
    async fn give_up(&self, name: &str, plan: &Move) -> Status {
        let wish = Command::WantOwner { writer: plan.writer.clone(), node: None };
        let withdrawn = self.change(wish, "", Subject::connector(name)).await.is_ok();
        let scene = self.scene_after_change().await;
        let target = scene.node_name(plan.to);
        let moved = assignment(&scene, &plan.writer).is_some_and(|now| now.owner == plan.to);
        let why = scene.state.connectors().get(name).map(|connector| Condition::of(&scene, connector).message);
        let why = why.filter(|why| !why.is_empty()).map(|why| format!(": {why}")).unwrap_or_default();
        status::unfinished(match (moved, withdrawn) {
            (true, _) => format!("{target} owns it now but was not seen to deliver in time{why}"),
            (false, true) => format!("{target} was not ready to take over in time, the owner stays{why}"),
            (false, false) => {
                format!("{target} was not ready to take over in time; it may still do so when it is{why}")
            }
        })
    }

    /// Empties a node and returns the connectors it had.
    pub(super) async fn drain(
        &self,
        request: admin::DrainNodeRequest,
        deadline: Instant,
    ) -> Result<admin::DrainNodeResponse, Status> {
        let scene = self.confirmed_scene().await?;
        let id = node_named(&scene, &request.node)?.id;
        let had = roles(&scene, id);
        let others = scene.state.nodes().values().filter(|node| node.id != id);
        if !had.is_empty() && !others.into_iter().any(|node| scene.may_be_up(node.id) && !node.draining) {
            let text = format!("no other node can take the work of {}: start or undrain one first", request.node);
            return Err(precondition("NO_OTHER_NODE", text));
        }
        let command = Command::SetDraining { id, draining: true };
        self.change(command, &request.request_id, Subject::node(&request.node)).await?;
        let empty = |scene: &Scene| (roles(scene, id).is_empty() && stopped(scene, id)).then_some(());
        if self.settled(deadline, empty).await.is_some() {
            return Ok(admin::DrainNodeResponse { moved: had });
        }
        let left = roles(&self.local_scene(), id).join(", ");
        Err(status::unfinished(format!(
            "node {name} still holds: {left}; it goes on draining, see: wsctl cluster members; or take it back with: \
             wsctl node undrain {name}",
            name = request.node
        )))
    }
}

fn plan(scene: &Scene, request: &admin::FailoverConnectorRequest) -> Result<Move, Status> {
    let name = &request.name;
    let connector = scene.state.connectors().get(name).ok_or_else(|| status::not_found(Subject::connector(name)))?;
    if connector.target != TargetState::Running {
        let text = format!("connector {name} does not run; resume it with: wsctl connector resume {name}");
        return Err(precondition("NOT_RUNNING", text));
    }
    let Some(from) = assignment(scene, &connector.writer) else {
        return Err(precondition("UNASSIGNED", format!("connector {name} has no owner that could be replaced")));
    };
    let to = match (request.to_node.as_str(), from.standby) {
        ("", Some(standby)) => standby,
        ("", None) if Condition::of(scene, connector).redundancy == Redundancy::Single => {
            let text = format!("connector {name} has one subscription and no standby; name the node: --to-node NODE");
            return Err(precondition("SINGLE", text));
        }
        ("", None) => {
            let text = format!("connector {name} has no standby now; start or undrain a node, or name one: --to-node");
            return Err(precondition("NO_STANDBY", text));
        }
        (named, _) => node_named(scene, named)?.id,
    };
    let target = scene.node_name(to);
    if to == from.owner {
        let text = format!("node {target} owns connector {name} already, at epoch {}", from.epoch);
        return Err(precondition("ALREADY_OWNER", text));
    }
    if !scene.may_be_up(to) {
        return Err(precondition("NODE_DOWN", format!("node {target} does not answer; choose another one")));
    }
    if scene.state.nodes().get(&to).is_some_and(|node| node.draining) {
        let text = format!("node {target} is draining; undrain it first with: wsctl node undrain {target}");
        return Err(precondition("NODE_DRAINING", text));
    }
    Ok(Move { writer: connector.writer.clone(), from: from.clone(), to })
}

fn assignment<'a>(scene: &'a Scene, writer: &WriterId) -> Option<&'a Assignment> {
    scene.state.writers().get(writer)?.assignment.as_ref()
}

/// The new epoch, once the target itself reports that it delivers under it.
fn delivering(scene: &Scene, plan: &Move) -> Option<u64> {
    let now = assignment(scene, &plan.writer).filter(|now| now.owner == plan.to && now.epoch > plan.from.epoch)?;
    let report = scene.node(plan.to)?.report.writers.get(&plan.writer.0)?;
    (report.is_of(Role::Owner, now.epoch) && report.delivering).then_some(now.epoch.0)
}

/// Connectors with a role on the node, by name.
fn roles(scene: &Scene, id: NodeId) -> Vec<String> {
    let has_role = |now: &Assignment| now.owner == id || now.standby == Some(id);
    let writers = scene.state.writers().values().filter(|writer| writer.assignment.as_ref().is_some_and(has_role));
    writers.flat_map(|writer| writer.connectors.iter().cloned()).collect()
}

/// Nothing runs there any more: a node that is down has stopped everything.
fn stopped(scene: &Scene, id: NodeId) -> bool {
    scene.node(id).is_none_or(|node| !node.up || node.report.writers.is_empty())
}
