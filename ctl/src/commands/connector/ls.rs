//! `wsctl connector ls`.

use std::time::SystemTime;

use super::{COLUMNS, all, item};
use crate::{error::Error, invocation::Invocation};

pub(crate) async fn run(invocation: &mut Invocation) -> Result<(), Error> {
    let now = SystemTime::now();
    let items: Vec<_> = all(invocation).await?.iter().map(|connector| item(connector, now)).collect();
    if items.is_empty() {
        invocation.output.progress("no connectors yet; see: wsctl connector create --help");
    }
    Ok(invocation.output.list(COLUMNS, &items)?)
}
