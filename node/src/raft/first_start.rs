//! The decision of a node without data: found the cluster, join it, or wait. Pure; `driver` asks the others and acts.
//!
//! Two clusters can never come out of one member list: only the first name may found, and only while every listed
//! member is known to be without data. Whoever sees a cluster joins it.

use std::collections::BTreeMap;

use crate::model::ids::{ClusterId, NodeId};

/// What a member said when asked who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) node_id: NodeId,
    pub(super) name: String,
    /// Empty: without data.
    pub(super) cluster_id: ClusterId,
    pub(super) member_list: String,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstStep {
    /// This node alone may make the cluster id.
    Found,
    Join(ClusterId),
    /// Ask again later; the text is for the log.
    Wait(String),
}

/// Decides for node `me`. `others` holds the answer of every other listed member by listed name, None where there was
/// none; `member_list` is this node's own list.
pub(super) fn first_step(me: &str, member_list: &str, others: &BTreeMap<String, Option<Greeting>>) -> FirstStep {
    let greetings = || others.values().flatten();
    let mut clusters: Vec<_> = greetings().map(|g| &g.cluster_id).filter(|id| !id.0.is_empty()).collect();
    clusters.sort();
    clusters.dedup();
    match clusters.as_slice() {
        [] => {}
        [cluster] => return FirstStep::Join((*cluster).clone()),
        [one, other, ..] => {
            let text = format!("the listed members belong to different clusters ({one} and {other}): correct the list");
            return FirstStep::Wait(text);
        }
    }
    let listed = member_list.is_empty() || member_list.split(',').any(|m| m.split('=').next() == Some(me));
    if !listed {
        return FirstStep::Wait(
            "no listed member belongs to a cluster yet, and this node is not one of them".to_owned(),
        );
    }
    let missing: Vec<_> = others.iter().filter(|(_, g)| g.is_none()).map(|(name, _)| name.as_str()).collect();
    if !missing.is_empty() {
        return FirstStep::Wait(format!("waiting for the other initial members: {}", missing.join(", ")));
    }
    for (name, greeting) in others.iter().filter_map(|(name, g)| Some((name, g.as_ref()?))) {
        if greeting.name != *name {
            return FirstStep::Wait(format!("the address of `{name}` leads to `{}`: correct the list", greeting.name));
        }
        if greeting.member_list != member_list {
            let theirs = &greeting.member_list;
            return FirstStep::Wait(format!("`{name}` lists other initial members ({theirs}): make the lists equal"));
        }
    }
    match others.keys().next() {
        Some(first) if first.as_str() < me => FirstStep::Wait(format!("waiting for `{first}` to found the cluster")),
        _ => FirstStep::Found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "a=1,b=2,c=3";

    fn greeting(name: &str, cluster: &str) -> Option<Greeting> {
        let (name, cluster_id) = (name.to_owned(), ClusterId(cluster.to_owned()));
        Some(Greeting { node_id: 1, name, cluster_id, member_list: LIST.to_owned() })
    }

    fn step(me: &str, others: [(&str, Option<Greeting>); 2]) -> FirstStep {
        first_step(me, LIST, &others.into_iter().map(|(name, g)| (name.to_owned(), g)).collect())
    }

    fn waits_for(step: &FirstStep, part: &str) -> bool {
        matches!(step, FirstStep::Wait(text) if text.contains(part))
    }

    #[test]
    fn only_the_first_name_founds_and_only_when_all_others_are_without_data() {
        assert_eq!(step("a", [("b", greeting("b", "")), ("c", greeting("c", ""))]), FirstStep::Found);
        assert!(waits_for(&step("b", [("a", greeting("a", "")), ("c", greeting("c", ""))]), "`a` to found"));
        assert!(waits_for(&step("a", [("b", greeting("b", "")), ("c", None)]), "members: c"));
    }

    #[test]
    fn any_member_of_a_cluster_is_joined_even_when_others_are_silent() {
        let joins = FirstStep::Join(ClusterId("x".to_owned()));
        assert_eq!(step("a", [("b", None), ("c", greeting("c", "x"))]), joins);
        assert_eq!(step("d", [("b", None), ("c", greeting("c", "x"))]), joins);
        let torn = step("a", [("b", greeting("b", "x")), ("c", greeting("c", "y"))]);
        assert!(waits_for(&torn, "different clusters"));
    }

    #[test]
    fn a_wrong_list_or_address_founds_nothing() {
        let other_list = Greeting { member_list: "a=1,b=2".to_owned(), ..greeting("c", "").expect("some") };
        assert!(waits_for(&step("a", [("b", greeting("b", "")), ("c", Some(other_list))]), "lists other"));
        assert!(waits_for(&step("a", [("b", greeting("b", "")), ("c", greeting("z", ""))]), "leads to `z`"));
        assert!(waits_for(&step("d", [("b", greeting("b", "")), ("c", greeting("c", ""))]), "not one of them"));
    }

    #[test]
    fn an_empty_list_is_a_cluster_of_one() {
        assert_eq!(first_step("a", "", &BTreeMap::new()), FirstStep::Found);
    }
}
