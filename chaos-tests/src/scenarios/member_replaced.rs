//! A machine is exchanged for another under load: the new node, which nobody has listed, joins the cluster it finds and
//! becomes a voter; the owner of the stream dies for good and is removed, and the quorum shrinks with it. In the end no
//! first member may be left, and the stream has never noticed more than a death.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;

use crate::{
    harness::wait_for,
    stage::Stage,
    story::{Facts, Story},
};

pub(super) struct MemberReplaced;

const VOTERS_MAX: Duration = Duration::from_secs(30);

impl Story for MemberReplaced {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(1_500),
            faults_per_stage: 4,
            ..Facts::new("member-replaced", &[37], "a new node joins, then the owner dies for good and is removed")
        }
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let newcomer = format!("n{}", stage.cluster.nodes.len() + 1);
        let before = voters(stage)?;
        stage.cluster.add_node(&newcomer)?;
        wait_voters(stage, before + 1)?;
        let roles = stage.roles()?;
        stage.wait_traffic()?;
        stage.fault(&format!("kill {} for good", roles.owner));
        stage.cluster.kill(&roles.owner)?;
        stage.wait_new_owner(roles.epoch)?;
        stage.wait_down(&roles.owner)?;
        stage.cluster.admin.remove_node(&roles.owner)?;
        wait_voters(stage, before)
    }
}

fn voters(stage: &Stage) -> Result<usize> {
    let status = stage.cluster.admin.status().context("no status")?;
    Ok(status.members.iter().filter(|member| member.voter).count())
}

fn wait_voters(stage: &Stage, wanted: usize) -> Result<()> {
    wait_for(&format!("{wanted} voters"), VOTERS_MAX, || (voters(stage).ok()? == wanted).then_some(()))
        .map_err(|error| stage.explain(error))
}
