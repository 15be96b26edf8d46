//! Whether each connector wants two subscriptions or one, read from its configuration once per revision: decisions are made
//! many times a second, and reading a configuration checks every URL and key of it. Pure.

use std::collections::BTreeMap;

use crate::{
    control::State,
    model::{
        connector::{Connector, Redundancy, Writer},
        spec::ConnectorSpec,
    },
};

/// By connector: the revision that was read, and what it says.
#[derive(Debug, Default)]
pub(super) struct Redundancies(BTreeMap<String, (u64, Redundancy)>);

impl Redundancies {
    /// Follows the state; how many configurations had to be read.
    pub(super) fn follow(&mut self, state: &State) -> usize {
        self.0.retain(|name, _| state.connectors().contains_key(name));
        let mut read = 0;
        for connector in state.connectors().values() {
            if self.0.get(&connector.name).is_none_or(|(revision, _)| *revision != connector.revision) {
                self.0.insert(connector.name.clone(), (connector.revision, redundancy(connector)));
                read += 1;
            }
        }
        read
    }

    /// One subscription is enough when all of its connectors say so.
    pub(super) fn of(&self, writer: &Writer) -> Redundancy {
        let single = |name: &String| matches!(self.0.get(name), Some((_, Redundancy::Single)));
        if writer.connectors.iter().all(single) { Redundancy::Single } else { Redundancy::Dual }
    }
}

/// One that cannot be read is FAILED wherever it is placed.
fn redundancy(connector: &Connector) -> Redundancy {
    match ConnectorSpec::parse(&connector.name, &connector.config) {
        Ok((spec, _)) => spec.redundancy,
        Err(_) => Redundancy::Dual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        command::{Command, Proposal},
        connector::{Config, TargetState},
    };

    fn apply(state: &mut State, index: u64, command: Command) {
        let proposal = Proposal { proposed_at_ms: 0, request_id: String::new(), asked: 0, command };
        state.apply(index, &proposal);
    }

    fn config(redundancy: &str) -> Config {
        let pairs = [("websocket.url", "ws://feed"), ("kafka.topic", "t"), ("twinfeed.redundancy", redundancy)];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_configuration_is_read_once_per_revision() {
        let mut state = State::default();
        for index in 1..=100 {
            let (name, config) = (format!("c{index}"), config("single"));
            apply(&mut state, index, Command::CreateConnector { name, config, target: TargetState::Running });
        }
        let mut redundancies = Redundancies::default();
        assert_eq!((redundancies.follow(&state), redundancies.follow(&state)), (100, 0));
        let of = |redundancies: &Redundancies, state: &State| {
            redundancies.of(&state.writers().values().next().unwrap().clone())
        };
        assert_eq!(of(&redundancies, &state), Redundancy::Single);
        let update = Command::UpdateConnector {
            name: "c1".to_owned(),
            config: config("dual"),
            expected_revision: 0,
            rolls_from: 0,
        };
        apply(&mut state, 101, update);
        assert_eq!(redundancies.follow(&state), 1);
        assert_eq!(of(&redundancies, &state), Redundancy::Dual);
        apply(&mut state, 102, Command::DeleteConnector { name: "c1".to_owned(), expected_revision: 0 });
        assert_eq!((redundancies.follow(&state), redundancies.0.len()), (0, 99), "what is deleted is forgotten");
    }
}
