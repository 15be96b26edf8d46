//! `wsctl cluster members`: every node with its Raft position and its load.

use twinfeed_proto::admin::Member;

use super::fetch;
use crate::{
    error::Error,
    invocation::Invocation,
    json,
    output::{
        Column::{self, Left, Right},
        Item,
    },
    text::{count, or_dash},
};

/// The columns of [`item`].
pub(crate) const COLUMNS: &[Column] = &[
    Left("NODE"),
    Left("ADDRESS"),
    Left("ROLE"),
    Left("STATE"),
    Left("VOTER"),
    Right("TERM"),
    Right("LAST-LOG"),
    Right("APPLIED"),
    Right("BEHIND"),
    Right("OWNED"),
    Right("STANDBY"),
    Right("LAST-CONTACT"),
    Left("ZONE"),
    Left("VERSION"),
];

pub(crate) async fn run(invocation: &mut Invocation) -> Result<(), Error> {
    let members = fetch(invocation).await?;
    Ok(invocation.output.list(COLUMNS, &items(&members))?)
}

/// One row per member; how far each is behind is seen from the one that is ahead.
pub(crate) fn items(members: &[Member]) -> Vec<Item> {
    let ahead = members.iter().map(|member| member.last_log_index).max().unwrap_or(0);
    members.iter().map(|member| item(member, ahead)).collect()
}

fn item(member: &Member, ahead: u64) -> Item {
    let state = match (member.up, member.draining) {
        (true, false) => "up",
        (true, true) => "draining",
        (false, _) => "DOWN",
    };
    let leads = member.role == "leader";
    Item {
        name: format!("node/{}", member.name),
        json: json::member(member),
        cells: vec![
            member.name.clone(),
            or_dash(&member.admin_address),
            or_dash(&member.role),
            state.to_owned(),
            if member.voter { "yes" } else { "no" }.to_owned(),
            member.term.to_string(),
            count(member.last_log_index),
            count(member.applied_index),
            if leads { "-".to_owned() } else { count(ahead - member.last_log_index) },
            count(member.owned.into()),
            count(member.standing_by.into()),
            if leads { "-".to_owned() } else { format!("{}ms", count(member.last_contact_ms)) },
            or_dash(&member.zone),
            or_dash(&member.version),
        ],
    }
}
