//! The search of Wing and Gong, with Lowe's memory of configurations that have been seen: which operations have taken effect, and
//! the state after them. Connectors are independent, so each is searched alone (a history is linearizable if each object's is).
//!
//! An operation may come next if no other that is still to come had been answered before it was called.

use std::collections::{BTreeMap, HashSet};

use super::register::{Operation, Outcome, State};

/// Configurations of one connector that are looked at before the search gives up; seconds, at most.
const CONFIGURATIONS_MAX: usize = 2_000_000;

/// What clients did and were told.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub operations: Vec<Operation>,
}

/// Why a history is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error(
        "no order of effects explains connector {connector}: after {explained} of {operations} operations none of these can \
         come next: {stuck}"
    )]
    NotLinearizable { connector: String, explained: usize, operations: usize, stuck: String },
    #[error("etag {etag} of connector {connector} stood for two contents, {first} and {second}")]
    AmbiguousEtag { connector: String, etag: String, first: u64, second: u64 },
    #[error(
        "connector {connector}: no verdict within {CONFIGURATIONS_MAX} configurations; record fewer operations or fewer clients"
    )]
    Undecided { connector: String },
}

impl History {
    /// Checks every connector of the history.
    ///
    /// # Errors
    /// The first violation found.
    pub fn check(&self) -> Result<(), Violation> {
        let mut objects: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.operations {
            objects.entry(&operation.connector).or_default().push(operation);
        }
        for (connector, operations) in objects {
            check_etags(connector, &operations)?;
            check_object(connector, operations)?;
        }
        Ok(())
    }

    /// Operations whose outcome is known.
    pub fn known(&self) -> usize {
        self.operations.iter().filter(|operation| operation.is_known()).count()
    }
}

fn check_etags(connector: &str, operations: &[&Operation]) -> Result<(), Violation> {
    let mut values: BTreeMap<&str, u64> = BTreeMap::new();
    for operation in operations {
        let Outcome::Read(Some(found)) = &operation.outcome else { continue };
        let first = *values.entry(&found.etag).or_insert(found.value);
        if first != found.value {
            let (connector, etag) = (connector.to_owned(), found.etag.clone());
            return Err(Violation::AmbiguousEtag { connector, etag, first, second: found.value });
        }
    }
    Ok(())
}

/// Which operations have taken effect, one bit each, and the state after them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Configuration {
    done: Box<[u64]>,
    state: State,
}

impl Configuration {
    fn has(&self, position: usize) -> bool {
        self.done[position / 64] & (1 << (position % 64)) != 0
    }

    fn with(&self, position: usize, state: State) -> Self {
        let mut done = self.done.clone();
        done[position / 64] |= 1 << (position % 64);
        Self { done, state }
    }

    fn explained(&self) -> usize {
        self.done.iter().map(|word| word.count_ones() as usize).sum()
    }
}

fn check_object(connector: &str, mut operations: Vec<&Operation>) -> Result<(), Violation> {
    operations.retain(|operation| operation.is_known() || operation.call != super::Call::Get);
    operations.sort_by_key(|operation| operation.invoked_ns);
    let start = Configuration { done: vec![0; operations.len().div_ceil(64)].into(), state: None };
    let mut seen = HashSet::from([start.clone()]);
    let mut deepest = start.clone();
    let mut open = vec![start];
    while let Some(configuration) = open.pop() {
        let next = candidates(&operations, &configuration);
        if next.iter().all(|position| !operations[*position].is_known()) {
            return Ok(());
        }
        if configuration.explained() > deepest.explained() {
            deepest = configuration.clone();
        }
        // The one that was answered first is tried first: it comes off the stack first.
        for position in next.into_iter().rev() {
            let Some(state) = operations[position].follow(configuration.state) else { continue };
            let is_idle = !operations[position].is_known() && state == configuration.state;
            let after = configuration.with(position, state);
            if !is_idle && seen.insert(after.clone()) {
                open.push(after);
            }
        }
        if seen.len() > CONFIGURATIONS_MAX {
            return Err(Violation::Undecided { connector: connector.to_owned() });
        }
    }
    let stuck: Vec<String> =
        candidates(&operations, &deepest).into_iter().map(|position| describe(operations[position])).collect();
    Err(Violation::NotLinearizable {
        connector: connector.to_owned(),
        explained: deepest.explained(),
        operations: operations.len(),
        stuck: format!("{} (the connector being {:?})", stuck.join("; "), deepest.state),
    })
}

/// Operations that may take effect next, those answered first first, unknown ones last.
fn candidates(operations: &[&Operation], configuration: &Configuration) -> Vec<usize> {
    let returned = |position: &usize| match operations[*position] {
        operation if operation.is_known() => operation.returned_ns,
        _ => u64::MAX,
    };
    let mut first_return = u64::MAX;
    let mut candidates = Vec::new();
    for position in (0..operations.len()).filter(|position| !configuration.has(*position)) {
        if operations[position].invoked_ns > first_return {
            break;
        }
        first_return = first_return.min(returned(&position));
        candidates.push(position);
    }
    candidates.retain(|position| operations[*position].invoked_ns <= first_return);
    candidates.sort_by_key(returned);
    candidates
}

fn describe(operation: &Operation) -> String {
    let Operation { client, call, outcome, invoked_ns, returned_ns, .. } = operation;
    let ms = |ns: &u64| ns / 1_000_000;
    format!("client {client} {call:?} -> {outcome:?} at {}..{} ms", ms(invoked_ns), ms(returned_ns))
}

#[cfg(test)]
#[path = "checker_test.rs"]
mod tests;
