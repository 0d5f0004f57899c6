//! Cases of the intake: opened once per delivery and code, listed, settled.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::command::{Given, give_command};
use super::commit::shard;
use super::delivery::{self, NewOutcome};
use crate::command::{Answer, Command};
use crate::delivery::{Conclusion, DeliveryOutcome};
use crate::error::Error;
use crate::intake_case::{CaseAnswer, CaseFilter, CaseView, NewCase, Opened, Origin, Stop};
use crate::published::publish as published;
use crate::record::Started;
use crate::status::Status;
use crate::store::Pool;
use crate::worker::new_id;

/// Who holds an instance because of a case.
const ACTOR: &str = "amends";
/// What a person asks of a case: that it is dealt with, or that its delivery is carried out.
const SETTLE: &str = "settle";
const CARRY_OUT: &str = "carry_out";
/// Why a delivery is ignored whose case a person has settled.
const BY_A_PERSON: &str = "BY_A_PERSON";
/// What cases are published as: not by the workflow that they are about.
const WORKFLOW: &str = "intake";

/// Opens a case, holds its instance if that is wanted, and publishes it, unless it is known.
pub(crate) async fn open(
    connection: &mut PgConnection,
    case_id: Uuid,
    case: &NewCase,
    subscriptions: &[String],
    at: DateTime<Utc>,
) -> Result<Opened, Error> {
    let code = case.event.kind;
    // First of all, so that two deliveries of one body see each other's case.
    let standing = match case.instance_id {
        Some(instance_id) => lock(connection, instance_id).await?,
        None => None,
    };
    let kept = sqlx::query!(
        r#"
        select d.delivery_id,
               exists (
                   select from amends.intake_case c
                   join amends.delivery other on other.delivery_id = c.delivery_id
                   where (c.delivery_id = d.delivery_id and c.code = $3)
                      or (c.instance_id = $4 and other.digest = d.digest)
               ) as "known!"
        from amends.delivery d
        where d.source = $1 and d.external_id = $2
        "#,
        case.source,
        case.external_id,
        code,
        case.instance_id,
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| Error::InvalidInput("the delivery of a case is kept before it".to_owned()))?;
    if kept.known {
        return Ok(Opened::Known);
    }
    let is_stoppable = standing.is_some_and(is_stoppable) && case.stop == Stop::BeforePivot;
    let held = match case.instance_id.filter(|_| is_stoppable) {
        Some(instance_id) => hold(connection, instance_id, case, at).await?,
        None => false,
    };
    let events = published(std::slice::from_ref(&case.event), 1)
        .map_err(|error| Error::InvalidInput(error.to_string()))?;
    let problems = serde_json::to_string(&case.problems)
        .map_err(|error| Error::InvalidInput(error.to_string()))?;
    let opened = sqlx::query!(
        "insert into amends.intake_case
             (case_id, code, message, source, delivery_id, workflow, business_key, instance_id,
              held, events, opened_at, problems)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::json, $11, $12::text::json)
         on conflict (delivery_id, code) do nothing",
        case_id,
        code,
        case.message,
        case.source,
        kept.delivery_id,
        case.workflow,
        case.business_key,
        case.instance_id,
        held,
        events,
        at,
        problems,
    )
    .execute(&mut *connection)
    .await?;
    if opened.rows_affected() == 0 {
        return Ok(Opened::Known);
    }
    publish(connection, case_id, case, subscriptions).await?;
    Ok(Opened::New { case_id, held })
}

/// Where the instance of a case stands.
#[derive(Debug, Clone, Copy)]
struct Standing {
    status: Status,
    past_pivot: bool,
}

async fn lock(connection: &mut PgConnection, instance_id: Uuid) -> Result<Option<Standing>, Error> {
    let seen = sqlx::query!(
        "select status, past_pivot from amends.instance where instance_id = $1 for update",
        instance_id,
    )
    .fetch_optional(connection)
    .await?;
    let standing = seen.map(|seen| {
        Ok(Standing { status: seen.status.parse::<Status>()?, past_pivot: seen.past_pivot })
    });
    standing.transpose()
}

/// Whether a hold keeps effects from happening that could not be taken back.
fn is_stoppable(standing: Standing) -> bool {
    let goes_forward = match standing.status {
        Status::Pending | Status::Running | Status::Waiting | Status::Stuck => true,
        Status::Compensating
        | Status::Completed
        | Status::Compensated
        | Status::Cancelled
        | Status::Terminated => false,
    };
    goes_forward && !standing.past_pivot
}

/// Holds the instance of a case. Says whether it is held.
async fn hold(
    connection: &mut PgConnection,
    instance_id: Uuid,
    case: &NewCase,
    at: DateTime<Utc>,
) -> Result<bool, Error> {
    let given = Given {
        command_id: new_id(),
        instance_id,
        command: Command::Hold,
        actor: ACTOR.to_owned(),
        reason: format!("{}: {}", case.event.kind, case.message),
        resolution: None,
        policy: None,
        by_parent: false,
        request: None,
        at,
    };
    let answer = give_command(connection, given, None).await?;
    Ok(matches!(answer, Some(Answer::Accepted | Answer::Held)))
}

/// Has the event of a case wait for every subscription, in the order of its business key.
async fn publish(
    connection: &mut PgConnection,
    case_id: Uuid,
    case: &NewCase,
    subscriptions: &[String],
) -> Result<(), sqlx::Error> {
    let own = case_id.to_string();
    let key = case.business_key.as_deref().unwrap_or(&own);
    sqlx::query!(
        // A case has no records: -1 says that the event is its own.
        "insert into amends.outbox (subscription, shard, workflow, key, instance_id, seq, ordinal)
         select s.subscription, $2, $3, $4, $5, -1, 0
         from unnest($1::text[]) as s(subscription)",
        subscriptions,
        shard(key),
        WORKFLOW,
        key,
        case_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A row of a case.
struct Row {
    case_id: Uuid,
    code: String,
    message: String,
    source: String,
    delivery_id: Uuid,
    workflow: String,
    business_key: Option<String>,
    instance_id: Option<Uuid>,
    held: bool,
    problems: Option<String>,
    opened_at: DateTime<Utc>,
    settled_at: Option<DateTime<Utc>>,
    settled_by: Option<String>,
    settled_reason: Option<String>,
}

impl TryFrom<Row> for CaseView {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let problems = row.problems.as_deref().map(serde_json::from_str).transpose();
        Ok(Self {
            case_id: row.case_id,
            code: row.code,
            message: row.message,
            source: row.source,
            delivery_id: row.delivery_id,
            workflow: row.workflow,
            business_key: row.business_key,
            instance_id: row.instance_id,
            held: row.held,
            problems: problems
                .map_err(|error| Error::Stored(error.to_string()))?
                .unwrap_or_default(),
            opened_at: row.opened_at,
            settled_at: row.settled_at,
            settled_by: row.settled_by,
            settled_reason: row.settled_reason,
        })
    }
}

/// Lists cases, newest first.
pub(crate) async fn cases(pool: &Pool, filter: &CaseFilter) -> Result<Vec<CaseView>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select case_id, code, message, source, delivery_id, workflow, business_key, instance_id,
               held, problems::text, opened_at, settled_at, settled_by, settled_reason
        from amends.intake_case
        where ($1::boolean is null or (settled_at is not null) = $1)
          and ($2::text is null or code = $2)
          and ($3::text is null or business_key = $3)
          and ($4::uuid is null or case_id < $4)
        order by case_id desc
        limit $5
        "#,
        filter.settled,
        filter.code,
        filter.business_key,
        filter.before,
        i64::from(filter.limit.clamp(1, 200)),
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(CaseView::try_from).collect()
}

/// One case.
pub(crate) async fn case(pool: &Pool, case_id: Uuid) -> Result<Option<CaseView>, Error> {
    let row = sqlx::query_as!(
        Row,
        "select case_id, code, message, source, delivery_id, workflow, business_key, instance_id,
                held, problems::text, opened_at, settled_at, settled_by, settled_reason
         from amends.intake_case
         where case_id = $1",
        case_id,
    )
    .fetch_optional(pool)
    .await?;
    row.map(CaseView::try_from).transpose()
}

/// What a person says of a case.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) command_id: Uuid,
    pub(crate) case_id: Uuid,
    pub(crate) actor: String,
    pub(crate) reason: String,
    pub(crate) at: DateTime<Utc>,
}

/// Settles a case, once, and keeps what was asked and answered. A delivery that failed is ignored
/// from now on.
pub(crate) async fn settle(
    connection: &mut PgConnection,
    settlement: &Settlement,
) -> Result<Option<CaseAnswer>, Error> {
    let seen = sqlx::query!(
        "select settled_at, delivery_id, instance_id from amends.intake_case
         where case_id = $1
         for update",
        settlement.case_id,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(seen) = seen else {
        return Ok(None);
    };
    let answer = match seen.settled_at {
        None => CaseAnswer::Accepted,
        Some(_) => CaseAnswer::AlreadySettled,
    };
    note(connection, settlement, SETTLE, answer).await?;
    if answer == CaseAnswer::Accepted {
        let ignored = NewOutcome {
            delivery_id: seen.delivery_id,
            conclusion: Conclusion {
                outcome: DeliveryOutcome::Ignored,
                reason: Some(BY_A_PERSON.to_owned()),
                instance_id: seen.instance_id,
                as_of: None,
            },
            actor: settlement.actor.clone(),
            note: settlement.reason.clone(),
            at: settlement.at,
        };
        delivery::append(connection, &ignored).await?;
    }
    Ok(Some(answer))
}

/// Settles the cases of a delivery that has been carried out after all.
pub(crate) async fn settle_of_delivery(
    connection: &mut PgConnection,
    new: &NewOutcome,
) -> Result<(), Error> {
    let open = sqlx::query_scalar!(
        "select case_id from amends.intake_case
         where delivery_id = $1 and settled_at is null
         for update",
        new.delivery_id,
    )
    .fetch_all(&mut *connection)
    .await?;
    for case_id in open {
        let settlement = Settlement {
            command_id: new_id(),
            case_id,
            actor: new.actor.clone(),
            reason: new.note.clone(),
            at: new.at,
        };
        note(connection, &settlement, CARRY_OUT, CaseAnswer::Accepted).await?;
    }
    Ok(())
}

/// Keeps what was asked of a case and answered, and settles it if that was accepted.
async fn note(
    connection: &mut PgConnection,
    settlement: &Settlement,
    command: &str,
    answer: CaseAnswer,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into amends.intake_case_command
             (command_id, case_id, command, actor, reason, answer, given_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        settlement.command_id,
        settlement.case_id,
        command,
        settlement.actor,
        settlement.reason,
        answer.as_str(),
        settlement.at,
    )
    .execute(&mut *connection)
    .await?;
    if answer == CaseAnswer::Accepted {
        sqlx::query!(
            "update amends.intake_case
             set settled_at = $2, settled_by = $3, settled_reason = $4
             where case_id = $1",
            settlement.case_id,
            settlement.at,
            settlement.actor,
            settlement.reason,
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// What an instance was started with.
pub(crate) async fn origin(pool: &Pool, instance_id: Uuid) -> Result<Option<Origin>, Error> {
    // A start's delivery and its instance share their id.
    let seen = sqlx::query!(
        r#"
        select r.payload::text as "payload!", d.source as "source?", d.external_id as "external_id?"
        from amends.record r
        left join amends.delivery d on d.delivery_id = r.instance_id
        where r.instance_id = $1 and r.seq = 0
        "#,
        instance_id,
    )
    .fetch_optional(pool)
    .await?;
    let Some(seen) = seen else {
        return Ok(None);
    };
    let started: Started =
        serde_json::from_str(&seen.payload).map_err(|error| Error::Stored(error.to_string()))?;
    let delivery = seen.source.zip(seen.external_id);
    Ok(Some(Origin { input: started.input.get().to_owned(), delivery }))
}
