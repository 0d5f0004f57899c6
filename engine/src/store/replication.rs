//! On how many machines a commit is when it is acknowledged.

use sqlx::PgConnection;

/// What a commit waits for.
#[derive(Debug)]
pub(crate) struct Replication {
    /// The setting `synchronous_standby_names`; empty: for nobody.
    pub(crate) standbys_wanted: String,
    /// The standbys of that setting that are there, as far as this role may know.
    pub(crate) standbys_there: i64,
}

impl Replication {
    /// On how many machines a commit is for certain when it is acknowledged. 0: none is
    /// acknowledged.
    pub(crate) fn copies(&self) -> i64 {
        let wanted = standbys_waited_for(&self.standbys_wanted);
        if self.standbys_there < wanted { 0 } else { 1 + wanted }
    }

    /// Why a commit is on one machine alone, or is not acknowledged, if so.
    pub(crate) fn missing(&self) -> Option<String> {
        match (self.copies(), self.standbys_wanted.as_str()) {
            (1, _) => {
                Some("synchronous_standby_names is empty: no commit waits for a standby".to_owned())
            }
            (0, names) => Some(format!(
                "commits wait for {names:?}, and {} of these are there (a role sees them if it may: \
                 `grant pg_monitor to <role>`)",
                self.standbys_there
            )),
            _ => None,
        }
    }
}

/// How many standbys a commit waits for: `FIRST 2 (a, b, c)`, `ANY 1 (a, b)`, `2 (a, b)`, or names
/// alone, of which one is enough.
fn standbys_waited_for(names: &str) -> i64 {
    let names = names.trim();
    if names.is_empty() {
        return 0;
    }
    let Some((method, _)) = names.split_once('(') else { return 1 };
    let number = method.split_whitespace().next_back().and_then(|number| number.parse().ok());
    number.unwrap_or(1)
}

pub(crate) async fn replication(connection: &mut PgConnection) -> Result<Replication, sqlx::Error> {
    sqlx::query_as!(
        Replication,
        r#"select current_setting('synchronous_standby_names') as "standbys_wanted!",
                  (select count(*) from pg_catalog.pg_stat_replication
                   where sync_state in ('sync', 'quorum')) as "standbys_there!""#
    )
    .fetch_one(connection)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_what_a_commit_waits_for_and_not_what_happens_to_be_there() {
        for (names, there, copies) in [
            ("", 0, 1),
            ("", 2, 1),
            ("pg2", 1, 2),
            ("pg2, pg3", 1, 2),
            ("*", 0, 0),
            ("ANY 1 (pg2, pg3)", 2, 2),
            ("any 2 (pg2, pg3)", 1, 0),
            ("FIRST 2 (pg2, pg3, pg4)", 2, 3),
            ("2 (pg2, pg3)", 2, 3),
        ] {
            let replication =
                Replication { standbys_wanted: names.to_owned(), standbys_there: there };
            assert_eq!(replication.copies(), copies, "{names:?} with {there}");
            assert_eq!(replication.missing().is_some(), copies < 2, "{names:?} with {there}");
        }
    }
}
