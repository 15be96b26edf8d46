//! `wsctl cluster status`: the head line of `wsctl status` and the members.

use serde_json::Value;

use super::members::{COLUMNS, items};
use crate::{
    commands::status::{fetch, head},
    error::Error,
    invocation::Invocation,
    json,
    output::Item,
};

pub(crate) async fn run(invocation: &mut Invocation) -> Result<(), Error> {
    let status = fetch(invocation).await?;
    let output = invocation.output;
    let text = format!("{}{}", head(&status), output.table(COLUMNS, &items(&status.members)));
    let mut json = json::cluster(&status);
    if let Value::Object(fields) = &mut json {
        fields.remove("connectors");
        fields.remove("problems");
    }
    let name = format!("cluster/{}", status.cluster_name);
    Ok(output.one(&Item { name, json, cells: Vec::new() }, &text)?)
}
