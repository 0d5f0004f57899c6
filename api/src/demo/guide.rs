//! What can be looked at and tried while the demo is up: addresses, and commands to paste.

use std::path::Path;

use uuid::Uuid;

use super::Options;
use super::shop::{self, Order, Orders};
use super::stage::{SERVER_PORT, Stage, TOKEN};
use crate::config::{DATA_DIR_DEFAULT, Database};

/// The whole text. `instances` are those of the orders, in their order.
pub(super) fn guide(
    options: &Options,
    stage: &Stage,
    orders: &Orders,
    instances: &[Uuid],
) -> String {
    let Stage { server, providers, .. } = stage;
    let amends = quoted(&options.program);
    let mut text = format!(
        "It stays up. Look at\n\
         \x20 http://{providers}/ledger         the providers' own books\n\
         \x20 http://{providers}/events         the events that arrived\n\
         \nor paste these into another terminal, in this folder:\n\
         \x20 export AMENDS_TOKEN={TOKEN}\n"
    );
    if server.port() != SERVER_PORT {
        text.push_str(&format!("  export AMENDS_SERVER=http://{server}\n"));
    }
    let bearer = "-sw '\\n' -H \"Authorization: Bearer $AMENDS_TOKEN\"";
    text.push_str(&format!(
        "  {amends} instances list\n\
         \x20 curl {bearer} http://{server}/openapi.json   # what the server can be asked\n\
         \x20 curl {bearer} http://{server}/metrics   # how it is doing, in numbers\n"
    ));
    // The one that was charged and refunded has the most to tell.
    if let (Some(id), Some((_, order))) = (instances.get(1), orders.cases().nth(1)) {
        text.push_str(&format!(
            "  {amends} instances show {id}\n\
             \x20 curl {bearer} http://{server}/orders/{shop}/{order_id}\n\
             \x20 curl {bearer} http://{server}/instances/{id}\n\
             \x20 curl {bearer} http://{server}/instances/{id}/history\n",
            shop = shop::NAME,
            order_id = order.id,
        ));
    }
    text.push_str(&verify(&amends, &options.database));
    text.push_str(&cancel(&amends, &format!("http://{server}"), &orders.slow));
    text.push_str("\nCtrl-C stops everything; the orders are kept.");
    text
}

fn verify(amends: &str, database: &Database) -> String {
    match database {
        Database::Url(_) => format!("  {amends} verify   # with the demo's DATABASE_URL\n"),
        Database::Embedded { data_dir, .. } if data_dir == Path::new(DATA_DIR_DEFAULT) => {
            format!("  {amends} verify\n")
        }
        Database::Embedded { data_dir, .. } => {
            format!("  {amends} verify --data-dir {}\n", quoted(&data_dir.to_string_lossy()))
        }
    }
}

fn cancel(amends: &str, server: &str, slow: &Order) -> String {
    let number = &slow.number;
    format!(
        "\nTo change your mind in time, send order {number}, which takes its time, and cancel it:\n\
         \x20 ID=$(curl -s {server}/orders -H \"Authorization: Bearer $AMENDS_TOKEN\" \\\n\
         \x20   -H 'Idempotency-Key: demo-{id}' -H 'Content-Type: application/json' \\\n\
         \x20   -d '{order}' | cut -d '\"' -f 4)\n\
         \x20 {amends} cancel $ID --reason 'the customer has changed his mind'\n\
         \x20 sleep 8; {amends} instances show $ID\n",
        id = slow.id,
        order = slow.as_request(),
    )
}

/// A text as one word of a shell command.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_command_whatever_is_in_it() {
        assert_eq!(quoted("target/debug/amends"), "target/debug/amends");
        assert_eq!(quoted("/home/o'neil & co/amends"), r"'/home/o'\''neil & co/amends'");
        assert_eq!(quoted(""), "''");
    }
}
