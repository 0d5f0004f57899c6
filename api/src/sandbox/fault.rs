//! Failures on demand: rules, the seeded mix, and what each fault does to a call.
//!
//! Faults before the effect, and the answers of gateways, strike every call, also one whose key was
//! decided long ago: they stand for the way to the provider. The others strike only a call that is
//! about to be decided. Rules live in memory; a restart forgets them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, post, put};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Sandbox;
use super::call::read_json;
use super::chance::{Mix, draw};
use super::gateway::Name;
use super::key::Key;
use super::late::Late;
use super::operation::{Operation, Provider};
use super::problem::{JsonResult, Problem};

const DELAY_DEFAULT: Duration = Duration::from_secs(30);

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fault {
    /// A definite no: 402.
    Decline,
    /// A definite no: 422.
    Refuse,
    /// Nothing is applied: 500.
    ErrorBefore,
    /// Applied: 500.
    ErrorAfter,
    /// Nothing is applied; the connection is held: 504.
    TimeoutBefore,
    /// Applied; the connection is held: 504.
    TimeoutAfter,
    /// Applied late, then answered truly.
    Slow,
    /// Answered by a gateway; applied when the delay is over.
    Late,
    /// Nothing is applied, and the provider says so: 503 with Retry-After.
    Down,
    /// Nothing is applied, and the provider says so: 429 with Retry-After.
    Busy,
    /// Nothing is applied; a gateway answers.
    GatewayBefore,
    /// Applied, as often as the call is made; a gateway answers.
    GatewayAfter,
}

/// Which calls meet which fault. The first rule that fits and is not used up wins.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rule {
    provider: Provider,
    operation: Option<Operation>,
    order_id: Option<String>,
    fault: Fault,
    times: Option<u64>,
    delay_ms: Option<u64>,
    /// What the gateway answers, for a fault in which one does; 504 if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<Name>,
}

/// A rule and how many calls it still has to strike.
#[derive(Clone, Debug, Serialize)]
struct CountedRule {
    #[serde(flatten)]
    rule: Rule,
    remaining: Option<u64>,
}

/// What a fault is chosen by.
pub(super) struct Aim<'a> {
    /// What is asked for.
    pub(super) operation: Operation,
    /// With which key; an event has none and is not part of the mix.
    pub(super) key: Option<&'a Key>,
    /// The names the order goes by in the request.
    pub(super) order_ids: [Option<&'a str>; 2],
    /// Whether the answer is fixed already.
    pub(super) stage: Stage,
}

/// How far a call has come before a fault is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is about to be decided.
    Open,
    /// Its answer is fixed, be it by an earlier call or by an undo.
    Settled,
}

/// A fault that strikes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Strike {
    fault: Fault,
    delay: Duration,
    gateway: Name,
}

/// A definite no in the provider's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 402.
    Decline,
    /// 422.
    Refuse,
}

/// The codes of a definite no.
pub(super) struct Codes {
    /// Of a 402.
    pub(super) declined: &'static str,
    /// Of a 422.
    pub(super) refused: &'static str,
}

/// How a call ends.
pub(super) enum Ending {
    /// With an answer.
    Answer(Response),
    /// With the connection held that long, and then 504.
    Hold(Duration),
}

/// The faults in force.
#[derive(Default)]
pub(super) struct Faults {
    inner: Mutex<InForce>,
}

#[derive(Default, Serialize)]
struct InForce {
    rules: Vec<CountedRule>,
    /// Providers that do not remember an undo of what they have not heard of.
    #[serde(skip_serializing_if = "HashSet::is_empty")]
    forgetful: HashSet<Provider>,
    /// Providers that do what they are asked for as often as they are asked, whatever the key.
    #[serde(skip_serializing_if = "HashSet::is_empty")]
    keyless: HashSet<Provider>,
    random: Option<Mix>,
    /// How often the mix has seen each key.
    #[serde(skip)]
    sights: HashMap<(Provider, Key), u64>,
}

impl Faults {
    /// The fault that strikes this call; counts it as struck.
    pub(super) fn choose(&self, aim: &Aim<'_>) -> Option<Strike> {
        self.with(|in_force| {
            let drawn = in_force.draw(aim);
            in_force.rules.iter_mut().find_map(|rule| rule.strike(aim)).or(drawn)
        })
    }

    /// Whether a provider remembers an undo of what it has not heard of.
    pub(super) fn remembers(&self, provider: Provider) -> bool {
        self.with(|in_force| !in_force.forgetful.contains(&provider))
    }

    /// Whether a provider does under one key what it is asked for once.
    pub(super) fn honours_keys(&self, provider: Provider) -> bool {
        self.with(|in_force| !in_force.keyless.contains(&provider))
    }

    fn with<T>(&self, act: impl FnOnce(&mut InForce) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn shown(&self) -> Json<serde_json::Value> {
        self.with(|in_force| Json(json!(in_force)))
    }
}

impl InForce {
    fn draw(&mut self, aim: &Aim<'_>) -> Option<Strike> {
        let mix = self.random?;
        let key = aim.key?;
        let sight = self.sights.entry((aim.operation.provider(), key.clone())).or_default();
        *sight += 1;
        let draw = draw(mix.seed, key.as_str(), *sight);
        let fault = mix.fault(aim.operation, draw)?;
        // Another part of the number than the one that chose the fault.
        let gateway = Name::drawn(draw.variant >> 8);
        let strike = || Strike::new(fault, mix.delay_ms_of(fault), Some(gateway));
        fault.can_strike(aim.stage).then(strike)
    }
}

impl CountedRule {
    fn strike(&mut self, aim: &Aim<'_>) -> Option<Strike> {
        let rule = &self.rule;
        let fits = rule.provider == aim.operation.provider()
            && rule.operation.is_none_or(|operation| operation == aim.operation)
            && (rule.order_id.is_none() || aim.order_ids.contains(&rule.order_id.as_deref()))
            && rule.fault.can_strike(aim.stage);
        if !fits || self.remaining == Some(0) {
            return None;
        }
        self.remaining = self.remaining.map(|remaining| remaining - 1);
        Some(Strike::new(rule.fault, rule.delay_ms, rule.gateway.clone()))
    }
}

impl Fault {
    fn can_strike(self, stage: Stage) -> bool {
        let on_the_way = matches!(
            self,
            Fault::ErrorBefore
                | Fault::TimeoutBefore
                | Fault::Down
                | Fault::Busy
                | Fault::GatewayBefore
                | Fault::GatewayAfter
        );
        on_the_way || stage == Stage::Open
    }
}

impl Codes {
    /// The codes of a provider that has no words of its own for a no.
    pub(super) const PLAIN: Codes = Codes { declined: "declined", refused: "refused" };

    /// The no as it is answered.
    pub(super) fn problem(&self, refusal: Refusal) -> Problem {
        let (status, code) = match refusal {
            Refusal::Decline => (StatusCode::PAYMENT_REQUIRED, self.declined),
            Refusal::Refuse => (StatusCode::UNPROCESSABLE_ENTITY, self.refused),
        };
        Problem::new(status, code, "the provider said no, for good")
    }
}

impl Strike {
    fn new(fault: Fault, delay_ms: Option<u64>, gateway: Option<Name>) -> Strike {
        let delay = delay_ms.map_or(DELAY_DEFAULT, Duration::from_millis);
        Strike { fault, delay, gateway: gateway.unwrap_or_else(Name::timed_out) }
    }
}

impl Ending {
    /// The answer, once it may leave. Dropped with the connection.
    pub(super) async fn leave(self) -> Response {
        match self {
            Ending::Answer(response) => response,
            Ending::Hold(delay) => {
                tokio::time::sleep(delay).await;
                Problem::timeout().into_response()
            }
        }
    }
}

/// Performs a call under a fault, or without one: the one place that says what each fault does.
pub(super) async fn perform<Apply, Applied>(
    strike: Option<Strike>,
    late: &Late,
    apply: Apply,
) -> Ending
where
    Apply: FnOnce(Option<Refusal>) -> Applied,
    Applied: Future<Output = Response> + Send + 'static,
{
    let Some(Strike { fault, delay, gateway }) = strike else {
        return Ending::Answer(apply(None).await);
    };
    Ending::Answer(match fault {
        Fault::Down => Problem::unavailable().into_response(),
        Fault::Busy => Problem::rate_limited().into_response(),
        Fault::GatewayBefore => gateway.answer(),
        Fault::GatewayAfter => {
            apply(None).await;
            gateway.answer()
        }
        Fault::Late => {
            let applied = apply(None);
            late.carry_out(delay, async move { drop(applied.await) });
            gateway.answer()
        }
        Fault::ErrorBefore => Problem::internal().into_response(),
        Fault::TimeoutBefore => return Ending::Hold(delay),
        Fault::Decline => apply(Some(Refusal::Decline)).await,
        Fault::Refuse => apply(Some(Refusal::Refuse)).await,
        Fault::Slow => {
            tokio::time::sleep(delay).await;
            apply(None).await
        }
        Fault::ErrorAfter => {
            apply(None).await;
            Problem::internal().into_response()
        }
        Fault::TimeoutAfter => {
            apply(None).await;
            return Ending::Hold(delay);
        }
    })
}

/// The routes that set, show and clear faults.
pub(super) fn routes() -> Router<Sandbox> {
    Router::new()
        .route("/faults", put(replace_rules).get(show).delete(clear))
        .route("/faults/late", post(apply_late))
        .route("/faults/random", put(replace_mix))
}

#[derive(Deserialize)]
struct Rules {
    rules: Vec<Rule>,
    #[serde(default)]
    forgetful: HashSet<Provider>,
    #[serde(default)]
    keyless: HashSet<Provider>,
}

async fn replace_rules(
    State(sandbox): State<Sandbox>,
    body: Result<Bytes, BytesRejection>,
) -> JsonResult {
    let Rules { rules, forgetful, keyless } = read_json(&body?)?;
    let foreign = |rule: &Rule| rule.operation.is_some_and(|o| o.provider() != rule.provider);
    if rules.iter().any(foreign) {
        let detail = "a rule names an operation that its provider does not offer";
        return Err(Problem::invalid("rule_invalid", detail));
    }
    let counted = |rule: Rule| CountedRule { remaining: rule.times, rule };
    sandbox.faults().with(|in_force| {
        in_force.rules = rules.into_iter().map(counted).collect();
        in_force.forgetful = forgetful;
        in_force.keyless = keyless;
    });
    Ok(sandbox.faults().shown())
}

async fn replace_mix(
    State(sandbox): State<Sandbox>,
    body: Result<Bytes, BytesRejection>,
) -> JsonResult {
    let mix: Mix = read_json(&body?)?;
    if !mix.is_possible() {
        return Err(Problem::invalid("mix_invalid", "the percentages add up to more than 100"));
    }
    // A run begins with its mix, so sights are counted from here.
    sandbox.faults().with(|in_force| {
        in_force.random = Some(mix);
        in_force.sights.clear();
    });
    Ok(sandbox.faults().shown())
}

/// Has everything that is late applied now.
async fn apply_late(State(sandbox): State<Sandbox>) -> Json<serde_json::Value> {
    Json(json!({ "applied": sandbox.late().all_now().await }))
}

async fn show(State(sandbox): State<Sandbox>) -> Json<serde_json::Value> {
    sandbox.faults().shown()
}

async fn clear(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.faults().with(|in_force| *in_force = InForce::default());
    StatusCode::NO_CONTENT
}
