//! Shops that send orders to both servers, and send each again until they are told that it is kept.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use amends_api::auth::Role;
use amends_tests::http::token;
use amends_tests::orders;
use chrono::{DateTime, Utc};
use reqwest::Client;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

/// Twenty orders per second.
const PAUSE: Duration = Duration::from_millis(50);
/// No shop waits longer for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// What a shop waits at first before it sends an order again, and at most: as platforms do, and so
/// that those who wait for a database that is away are no flood.
const AGAIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(16);

/// What a shop was told.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Answer {
    pub(crate) order: usize,
    /// To which server it was sent.
    pub(crate) server: usize,
    pub(crate) sent: DateTime<Utc>,
    pub(crate) at: DateTime<Utc>,
    /// 0: none came.
    pub(crate) status: u16,
    /// The code of a refusal, or why no answer came.
    pub(crate) code: String,
    /// What carries it out.
    pub(crate) instance_id: Option<Uuid>,
}

/// All shops.
pub(crate) struct Load {
    client: Client,
    urls: Vec<String>,
    open: AtomicBool,
    sent: AtomicUsize,
    waiting: AtomicUsize,
    answers: Mutex<(File, Vec<Answer>)>,
}

impl Answer {
    pub(crate) fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Load {
    /// Begins to send orders to these servers in turn.
    pub(crate) fn begin(urls: &[String], folder: &Path) -> anyhow::Result<Arc<Self>> {
        let load = Arc::new(Self {
            client: Client::builder().no_proxy().timeout(ANSWER).build()?,
            urls: urls.iter().map(|url| format!("{url}/orders")).collect(),
            open: AtomicBool::new(true),
            sent: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            answers: Mutex::new((File::create(folder.join("answers.jsonl"))?, Vec::new())),
        });
        let shops = Arc::clone(&load);
        tokio::spawn(async move { shops.send().await });
        Ok(load)
    }

    async fn send(self: Arc<Self>) {
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shops = JoinSet::new();
        while self.open.load(Ordering::Acquire) {
            ticks.tick().await;
            let order = self.sent.fetch_add(1, Ordering::AcqRel);
            self.waiting.fetch_add(1, Ordering::AcqRel);
            let all = Arc::clone(&self);
            shops.spawn(async move {
                all.until_kept(order).await;
                all.waiting.fetch_sub(1, Ordering::AcqRel);
            });
            while shops.try_join_next().is_some() {}
        }
        shops.join_all().await;
    }

    async fn until_kept(&self, order: usize) {
        let body = serde_json::to_string(&orders::order(&order.to_string()));
        let body = body.expect("an order is JSON");
        let mut again = AGAIN;
        loop {
            let answer = self.attempt(order, &body).await;
            let is_good = answer.is_good();
            self.note(answer);
            if is_good {
                return;
            }
            sleep(again).await;
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    fn note(&self, answer: Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(&answer).expect("an answer is JSON");
        writeln!(answers.0, "{line}").expect("the log can be written");
        answers.1.push(answer);
    }

    async fn attempt(&self, order: usize, body: &str) -> Answer {
        let server = order % self.urls.len();
        let sent = Utc::now();
        let request = self.client.post(&self.urls[server]).bearer_auth(token(Role::Ingest));
        let request = request.header("content-type", "application/json");
        let request = request.header("idempotency-key", format!("order-{order}"));
        let answered = async {
            let answer = request.body(body.to_owned()).send().await?;
            Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.text().await?))
        };
        let (status, text) = answered.await.unwrap_or_else(|error| (0, error.to_string()));
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let instance_id = body["instance_id"].as_str().and_then(|id| id.parse().ok());
        let code = match (body["code"].as_str(), status) {
            (Some(code), _) => code.to_owned(),
            (None, 0) => text,
            (None, _) => String::new(),
        };
        Answer { order, server, sent, at: Utc::now(), status, code, instance_id }
    }

    /// What was answered from then on, so far.
    pub(crate) fn since(&self, begin: DateTime<Utc>) -> Vec<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.1.iter().filter(|it| it.at >= begin).cloned().collect()
    }

    /// Waits until a server has kept an order that was sent to it from then on; when that was.
    pub(crate) async fn kept(
        &self,
        server: usize,
        since: DateTime<Utc>,
        patience: Duration,
    ) -> Option<DateTime<Utc>> {
        let looking = async {
            loop {
                let answers = self.since(since);
                let good = answers.iter().filter(|it| it.server == server && it.is_good());
                if let Some(at) = good.map(|it| it.at).min() {
                    return at;
                }
                sleep(PAUSE).await;
            }
        };
        timeout(patience, looking).await.ok()
    }

    /// Sends nothing new any more, and waits until everybody is served; how many are not.
    pub(crate) async fn end(&self, patience: Duration) -> usize {
        self.open.store(false, Ordering::Release);
        let served = async {
            while self.waiting.load(Ordering::Acquire) > 0 {
                sleep(PAUSE).await;
            }
        };
        // Who is not served by then is counted.
        let _ = timeout(patience, served).await;
        self.waiting.load(Ordering::Acquire)
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Acquire)
    }
}

/// The longest time in which a server has kept no order, between two moments.
pub(crate) fn gap(
    answers: &[Answer],
    server: usize,
    [from, to]: [DateTime<Utc>; 2],
) -> chrono::TimeDelta {
    let good = answers.iter().filter(|it| it.server == server && it.is_good()).map(|it| it.at);
    let mut times: Vec<_> = good.filter(|at| (from..=to).contains(at)).chain([from, to]).collect();
    times.sort();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
