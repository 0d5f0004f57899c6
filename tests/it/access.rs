//! Who may do what, and that the description of the API names it all.

use std::collections::BTreeSet;

use amends_api::auth::Role;
use amends_tests::World;
use amends_tests::http::{Api, Call};
use serde_json::{Value, json};
use uuid::Uuid;

use Role::{Admin, Auditor, Ingest, Operator, Viewer};

/// Whom a route lets through.
enum Asks {
    /// For nothing.
    Nothing,
    /// For a signature, which no token stands in for.
    Signature,
    /// For a token of one of these roles.
    Token(&'static [Role]),
}

const READERS: Asks = Asks::Token(&[Viewer, Operator, Auditor, Admin]);
const SENDERS: Asks = Asks::Token(&[Operator, Ingest, Admin]);

/// Every route there is.
const ROUTES: [(&str, &str, Asks); 31] = [
    ("GET", "/health/live", Asks::Nothing),
    ("GET", "/health/ready", Asks::Nothing),
    ("GET", "/metrics", READERS),
    ("GET", "/openapi.json", Asks::Token(&Role::ALL)),
    ("POST", "/webhooks/shopify/{shop}", Asks::Signature),
    ("POST", "/orders", SENDERS),
    ("POST", "/signals", SENDERS),
    ("GET", "/orders/{id}", READERS),
    ("GET", "/orders/{shop}/{order_id}", READERS),
    ("GET", "/instances", READERS),
    ("GET", "/instances/{id}", READERS),
    ("GET", "/instances/{id}/history", READERS),
    ("GET", "/workflows", READERS),
    ("GET", "/dependencies", READERS),
    ("GET", "/doctor", READERS),
    ("GET", "/events/blocked", READERS),
    ("GET", "/instances/{id}/events/blocked", READERS),
    ("POST", "/events/blocked/commands", Asks::Token(&[Operator, Admin])),
    ("GET", "/events/leftover", READERS),
    ("POST", "/events/leftover/commands", Asks::Token(&[Operator, Admin])),
    ("GET", "/deliveries", READERS),
    ("GET", "/deliveries/{id}", READERS),
    ("GET", "/deliveries/{id}/body", READERS),
    ("POST", "/deliveries/{id}/commands", Asks::Token(&[Operator, Admin])),
    ("GET", "/intake/cases", READERS),
    ("POST", "/intake/cases/{id}/commands", Asks::Token(&[Operator, Admin])),
    ("GET", "/instances/{id}/preview", READERS),
    ("POST", "/instances/{id}/commands", Asks::Token(&[Operator, Admin])),
    ("GET", "/schedules", READERS),
    ("GET", "/schedules/{name}", READERS),
    ("POST", "/schedules/{name}/commands", Asks::Token(&[Operator, Admin])),
];

fn call(method: &str, path: &str) -> Call {
    let id = Uuid::nil().to_string();
    let path = path.replace("{id}", &id).replace("{shop}", "acme").replace("{order_id}", "1001");
    let path = path.replace("{name}", "nightly");
    Call::new(method, path).json(&json!({}))
}

#[tokio::test]
async fn every_role_may_use_exactly_the_routes_it_is_for() {
    let world = World::new().await;
    let api = Api::of(&world);
    let mut wrong = Vec::new();
    for (method, path, asks) in ROUTES {
        let nobody = api.send(call(method, path)).await.status;
        if (nobody == 401) == matches!(asks, Asks::Nothing) {
            wrong.push(format!("{method} {path} without a token: {nobody}"));
        }
        for role in Role::ALL {
            let status = api.send(call(method, path).role(role)).await.status;
            let is_right = match asks {
                Asks::Nothing => status == 200,
                Asks::Signature => status == 401,
                Asks::Token(roles) if roles.contains(&role) => !matches!(status, 401 | 403),
                Asks::Token(_) => status == 403,
            };
            if !is_right {
                wrong.push(format!("{method} {path} as {}: {status}", role.as_str()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.finish().await;
}

#[tokio::test]
async fn who_is_refused_is_told_what_is_missing() {
    let world = World::new().await;
    let api = Api::of(&world);
    let challenge = async |call: Call| api.send(call).await.header("www-authenticate").to_owned();
    let orders = || call("POST", "/orders");
    assert_eq!(challenge(orders()).await, "Bearer realm=\"amends\"");
    assert_eq!(
        challenge(orders().role(Viewer)).await,
        "Bearer realm=\"amends\", error=\"insufficient_scope\"",
    );
    let webhook = call("POST", "/webhooks/shopify/{shop}");
    assert_eq!(challenge(webhook).await, "Signature realm=\"amends\"");
    world.finish().await;
}

#[tokio::test]
async fn the_description_is_openapi_3_1_and_names_every_route_and_no_other() {
    let world = World::new().await;
    let answer = Api::of(&world).send(Call::get("/openapi.json")).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    let version = document["openapi"].as_str().unwrap();
    assert!(version.starts_with("3.1"), "{version}");

    let described: BTreeSet<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |it| (it, path)))
        .map(|(method, path)| format!("{} {path}", method.to_uppercase()))
        .collect();
    let routes: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(described, routes);
    world.finish().await;
}

#[tokio::test]
async fn the_description_refers_to_nothing_that_it_does_not_hold() {
    let world = World::new().await;
    let document = Api::of(&world).send(Call::get("/openapi.json")).await.json();
    let mut references = BTreeSet::new();
    gather(&document, &mut references);
    assert!(!references.is_empty());
    let dangling: Vec<_> = references
        .iter()
        .filter(|reference| document.pointer(reference.trim_start_matches('#')).is_none())
        .collect();
    assert!(dangling.is_empty(), "{dangling:?}");
    world.finish().await;
}

/// Every `$ref` in a document.
fn gather(value: &Value, references: &mut BTreeSet<String>) {
    if let Some(reference) = value["$ref"].as_str() {
        references.insert(reference.to_owned());
    }
    let members = value.as_object().into_iter().flat_map(|object| object.values());
    let items = value.as_array().into_iter().flatten();
    members.chain(items).for_each(|inner| gather(inner, references));
}
