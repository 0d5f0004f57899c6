//! Asks the server, and the providers, over HTTP, as anybody outside would.

use amends::Money;
use anyhow::{Context, bail};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use super::shop::{self, Webhook};
use crate::intake::cases::CasePage;
use crate::intake::command::{CaseCommandAccepted, CaseCommandRequest};
use crate::orders::story::Story;
use crate::view::{History, Instance, Page};

/// What the server and the providers are asked with.
pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    providers: Url,
    token: &'static str,
}

/// What a provider has written into its books.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) operation: String,
    amount_minor: Option<i64>,
    currency: Option<String>,
}

/// An event that has arrived where events go.
#[derive(Debug, Deserialize)]
pub(super) struct Arrived {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Deserialize)]
struct Books {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Arrivals {
    events: Vec<Arrived>,
}

impl Entry {
    /// The money that was moved.
    pub(super) fn money(&self) -> Option<Money> {
        let currency = self.currency.as_ref()?.parse().ok()?;
        Some(Money { amount_minor: self.amount_minor?, currency })
    }
}

impl Client {
    pub(super) fn try_new(
        server: &str,
        providers: &str,
        token: &'static str,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { http, server: server.parse()?, providers: providers.parse()?, token })
    }

    /// Sends what a shop would send; the server's answer.
    pub(super) async fn deliver(&self, webhook: &Webhook) -> anyhow::Result<StatusCode> {
        let url = self.server.join(&webhook.path)?;
        let mut request = self.http.post(url).body(webhook.body.clone());
        for (name, value) in &webhook.headers {
            request = request.header(*name, value);
        }
        Ok(request.send().await.context("the server does not answer")?.status())
    }

    /// Fills in what a delivery about this order does not say, and has the order carried out.
    pub(super) async fn fill_in(
        &self,
        business_key: &str,
        (field, value): (&str, &str),
        reason: &str,
    ) -> anyhow::Result<()> {
        let query = [("business_key", business_key), ("settled", "false")];
        let cases: CasePage = self.ask_server("/intake/cases", &query).await?;
        let case = cases.items.first().context("nobody was asked about the order")?;
        let path = format!("/intake/cases/{}/commands", case.case_id);
        let request = CaseCommandRequest {
            command: "start".to_owned(),
            reason: reason.to_owned(),
            fields: [(field.to_owned(), json!(value))].into(),
        };
        let posting = self.http.post(self.server.join(&path)?).json(&request);
        let _: CaseCommandAccepted = ask(posting.bearer_auth(self.token)).await?;
        Ok(())
    }

    /// How an order is doing, in the server's own words.
    pub(super) async fn story(&self, business_key: &str) -> anyhow::Result<Story> {
        self.ask_server(&format!("/orders/{business_key}"), &[]).await
    }

    /// One instance as it stands.
    pub(super) async fn instance(&self, instance_id: Uuid) -> anyhow::Result<Instance> {
        self.ask_server(&format!("/instances/{instance_id}"), &[]).await
    }

    /// Everything that has happened to an instance.
    pub(super) async fn history(&self, instance_id: Uuid) -> anyhow::Result<History> {
        self.ask_server(&format!("/instances/{instance_id}/history"), &[]).await
    }

    /// The instances of an order; more than one would be a mistake.
    pub(super) async fn instances_of(&self, business_key: &str) -> anyhow::Result<Vec<Instance>> {
        let page: Page = self.ask_server("/instances", &[("business_key", business_key)]).await?;
        Ok(page.items)
    }

    /// The orders of the demo's shop that somebody works on, oldest first.
    pub(super) async fn under_way(&self) -> anyhow::Result<Vec<Instance>> {
        let mut found = Vec::new();
        for status in ["pending", "running", "waiting", "compensating"] {
            let page: Page = self.ask_server("/instances", &[("status", status)]).await?;
            found.extend(page.items.into_iter().filter(shop::has));
        }
        found.sort_by_key(|instance| instance.instance_id);
        Ok(found)
    }

    /// The number of the newest order of the demo's shop, unless many others came after it.
    pub(super) async fn newest_number(&self) -> anyhow::Result<Option<String>> {
        let page: Page = self.ask_server("/instances", &[("limit", "100")]).await?;
        Ok(page.items.into_iter().find(shop::has).as_ref().map(shop::number))
    }

    /// What the providers have done for an order, in order.
    pub(super) async fn books(&self, business_key: &str) -> anyhow::Result<Vec<Entry>> {
        let books: Books = self.ask_providers("/ledger", ("order_id", business_key)).await?;
        Ok(books.entries)
    }

    /// The events about an order, as they arrived.
    pub(super) async fn arrived(&self, business_key: &str) -> anyhow::Result<Vec<Arrived>> {
        let arrivals: Arrivals = self.ask_providers("/events", ("subject", business_key)).await?;
        Ok(arrivals.events)
    }

    /// Tells the providers how to behave from now on.
    pub(super) async fn set_faults(&self, rules: &[Value]) -> anyhow::Result<()> {
        let url = self.providers.join("/faults")?;
        let answer = self.http.put(url).json(&json!({ "rules": rules })).send().await?;
        answer.error_for_status().context("the stand-ins do not take orders")?;
        Ok(())
    }

    async fn ask_server<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let mut url = self.server.join(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        ask(self.http.get(url).bearer_auth(self.token)).await
    }

    async fn ask_providers<T: DeserializeOwned>(
        &self,
        path: &str,
        query: (&str, &str),
    ) -> anyhow::Result<T> {
        let mut url = self.providers.join(path)?;
        url.query_pairs_mut().append_pair(query.0, query.1);
        ask(self.http.get(url)).await
    }
}

async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> anyhow::Result<T> {
    let answer = request.send().await?;
    let (status, url) = (answer.status(), answer.url().clone());
    if !status.is_success() {
        bail!("{url} answered {status}");
    }
    answer.json().await.with_context(|| format!("the answer of {url} cannot be read"))
}
