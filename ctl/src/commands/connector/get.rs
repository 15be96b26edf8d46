//! `wsctl connector get NAME`.

use std::time::SystemTime;

use super::{COLUMNS, fetch, item};
use crate::{error::Error, invocation::Invocation};

pub(crate) async fn run(invocation: &mut Invocation, name: &str) -> Result<(), Error> {
    let call = invocation.read();
    let connector = fetch(invocation, call, name).await?;
    let item = item(&connector, SystemTime::now());
    let table = invocation.output.table(COLUMNS, std::slice::from_ref(&item));
    Ok(invocation.output.one(&item, &table)?)
}
