//! Shops that send orders over HTTP, and send them again until they are told that they are kept.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use amends_api::auth::Role;
use amends_tests::http::token;
use amends_tests::orders;
use amends_tests::process::eventually;
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::scene::Scene;

/// No shop waits longer for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// No order may need longer, outages included.
const SERVED: Duration = Duration::from_secs(45);
/// Every so many-th shop does not read its first answer, as if its connection had broken.
const LOSES_ITS_ANSWER: usize = 10;

/// An answer that says that an order is kept.
struct Kept {
    instance_id: Uuid,
    replayed: bool,
}

/// Everybody who has ordered something, and what they were told.
pub(super) struct Customers {
    client: Client,
    url: String,
    waiting: JoinSet<(String, Vec<Kept>)>,
    served: BTreeMap<String, Vec<Kept>>,
}

impl Customers {
    pub(super) fn of(scene: &Scene) -> Self {
        Self {
            client: Client::builder().timeout(ANSWER).no_proxy().build().unwrap(),
            url: format!("{}/orders", scene.server_url()),
            waiting: JoinSet::new(),
            served: BTreeMap::new(),
        }
    }

    /// Sends these orders, all at once and in the background.
    pub(super) fn order(&mut self, numbers: Range<usize>) {
        for number in numbers {
            let (client, url) = (self.client.clone(), self.url.clone());
            self.waiting.spawn(async move {
                let order = orders::order(&number.to_string());
                let body = serde_json::to_string(&order).unwrap();
                let times = if number % LOSES_ITS_ANSWER == 0 { 2 } else { 1 };
                let mut kept = Vec::new();
                for _ in 0..times {
                    kept.push(until_kept(&client, &url, number, &body).await);
                }
                (order.business_key(), kept)
            });
        }
    }

    /// Waits until everybody has been told that the order is kept.
    pub(super) async fn all_served(&mut self) {
        while self.one_served().await {}
    }

    /// Waits until one more of them has been told so. Says whether there was one.
    pub(super) async fn one_served(&mut self) -> bool {
        let Some(served) = self.waiting.join_next().await else { return false };
        let (business_key, kept) = served.unwrap();
        self.served.insert(business_key, kept);
        true
    }

    /// What each order was said to be carried out by.
    pub(super) fn accepted(&self) -> BTreeMap<String, Vec<Uuid>> {
        let ids = |kept: &Vec<Kept>| kept.iter().map(|kept| kept.instance_id).collect();
        self.served.iter().map(|(key, kept)| (key.clone(), ids(kept))).collect()
    }

    /// How many answers were said to be given again.
    pub(super) fn replayed(&self) -> usize {
        self.served.values().flatten().filter(|kept| kept.replayed).count()
    }
}

/// Sends an order under its key until it is kept. No answer, or one that says to come back, is no
/// reason to stop; any other refusal is one to fail.
async fn until_kept(client: &Client, url: &str, number: usize, body: &str) -> Kept {
    eventually("an order is accepted", SERVED, || async {
        let request = client.post(url).bearer_auth(token(Role::Ingest)).body(body.to_owned());
        let request = request.header("content-type", "application/json");
        let request = request.header("idempotency-key", number.to_string());
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let replayed = answer.headers().contains_key("idempotency-replayed");
        let body = answer.text().await.map_err(|error| error.to_string())?;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Err(body);
        }
        assert_eq!(status, StatusCode::CREATED, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let instance_id = body["instance_id"].as_str().unwrap().parse().unwrap();
        Ok(Kept { instance_id, replayed })
    })
    .await
}
