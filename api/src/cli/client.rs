//! Asks a server over its HTTP API.

use std::time::Duration;

use amends_api::config;
use amends_api::secret::Secret;
use anyhow::{Context, bail};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::table::{print, printable};

const TIMEOUT: Duration = Duration::from_secs(35);
/// The name of a request that may be sent again.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// How often such a request is sent at most.
const SENT_MAX: usize = 3;
/// Between one time and the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Which server to ask, who asks, and how to print what it answers.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// The server
    #[arg(
        long,
        env = "AMENDS_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    server: String,
    #[command(flatten)]
    token: TokenArguments,
    /// Print what the server answered
    #[arg(long)]
    json: bool,
}

/// Who asks.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct TokenArguments {
    /// Not taken from the command line
    #[arg(long, env = "AMENDS_TOKEN", value_name = "TOKEN", hide = true)]
    token: Option<String>,
    /// File that holds the token to ask with, unless AMENDS_TOKEN does
    #[arg(long, env = "AMENDS_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<String>,
}

/// A server that can be asked.
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<Secret>,
    json: bool,
}

/// What a problem says that people read.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
    #[serde(default)]
    errors: Vec<Invalid>,
}

#[derive(Deserialize)]
struct Invalid {
    pointer: String,
    detail: String,
}

impl Client {
    /// A client of this server. Nothing is sent yet.
    pub(crate) fn try_new(arguments: Arguments) -> anyhow::Result<Self> {
        let Arguments { server, token, json } = arguments;
        Ok(Self { json, ..Self::of(&server, token)? })
    }

    /// A client of the server at this address, whose answers are printed in words.
    pub(crate) fn of(server: &str, token: TokenArguments) -> anyhow::Result<Self> {
        let server = Url::parse(server).context("--server is not an address")?;
        if server.cannot_be_a_base() {
            bail!("--server is not an address");
        }
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none());
        // No proxy leads to this machine.
        let is_here = matches!(server.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let http = if is_here { http.no_proxy() } else { http }.build()?;
        let token = config::secret("AMENDS_TOKEN", token.token, token.token_file)?;
        Ok(Self { http, server, token, json: false })
    }

    /// Gets `path` with these query parameters; the answer's body, as it came.
    pub(crate) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> anyhow::Result<String> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(self.http.get(url)).await
    }

    /// Posts JSON to `path`; the answer's body, as it came.
    pub(crate) async fn post(
        &self,
        path: &[&str],
        body: &impl serde::Serialize,
    ) -> anyhow::Result<String> {
        self.send(self.http.post(self.url(path)?).json(body)).await
    }

    /// Posts a request that is done once, however often it is sent: it has a key of its own, and is
    /// sent again if no answer comes, or none of this server.
    #[expect(clippy::disallowed_methods, reason = "the request gets its id here, and waits")]
    pub(crate) async fn post_once(
        &self,
        path: &[&str],
        body: &impl serde::Serialize,
    ) -> anyhow::Result<String> {
        let key = Uuid::now_v7().to_string();
        let mut sent = 1;
        loop {
            let request = self.http.post(self.url(path)?).json(body);
            let answer = self.answer(request.header(IDEMPOTENCY_KEY, &key)).await;
            let is_lost = answer.as_ref().map_or(true, |(status, _)| is_of_nobody(*status));
            if !is_lost || sent == SENT_MAX {
                return answer.and_then(told);
            }
            sent += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Prints an answer: as it came, or in words.
    pub(crate) fn tell<T: DeserializeOwned>(
        &self,
        body: &str,
        in_words: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        if self.json {
            print(body);
        } else {
            print(&in_words(&serde_json::from_str(body).context("the answer cannot be read")?));
        }
        Ok(())
    }

    /// Whether answers are printed as they came.
    pub(crate) fn tells_json(&self) -> bool {
        self.json
    }

    fn url(&self, path: &[&str]) -> anyhow::Result<Url> {
        let mut url = self.server.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("--server is not an address"))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<String> {
        self.answer(request).await.and_then(told)
    }

    async fn answer(&self, request: RequestBuilder) -> anyhow::Result<(StatusCode, String)> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let cannot = || format!("cannot ask {}", self.server);
        let answer = request.send().await.with_context(cannot)?;
        let status = answer.status();
        let body = answer.text().await.with_context(cannot)?;
        Ok((status, body))
    }
}

/// Whether something on the way has answered, or a server that could not say what became of it.
fn is_of_nobody(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

fn told((status, body): (StatusCode, String)) -> anyhow::Result<String> {
    if status.is_success() { Ok(body) } else { bail!(refusal(status, &body)) }
}

/// What a refusal says, in the server's own words where it has any.
fn refusal(status: StatusCode, body: &str) -> String {
    let Ok(problem) = serde_json::from_str::<Problem>(body) else {
        return format!("the server answered {status}");
    };
    let mut text = format!("{} ({})", printable(&problem.detail), printable(&problem.code));
    for error in problem.errors {
        let place = if error.pointer.is_empty() { "" } else { ": " };
        let (pointer, detail) = (printable(&error.pointer), printable(&error.detail));
        text.push_str(&format!("\n- {pointer}{place}{detail}"));
    }
    if status == StatusCode::UNAUTHORIZED {
        text.push_str("\nset AMENDS_TOKEN, or AMENDS_TOKEN_FILE to a file that holds it");
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    fn arguments(server: String) -> Arguments {
        let token = TokenArguments { token: None, token_file: None };
        Arguments { server, token, json: false }
    }

    #[test]
    fn a_refusal_is_told_in_the_words_of_the_server() {
        let body =
            r#"{"code":"command_refused","detail":"cannot cancel: it has ended","status":409}"#;
        assert_eq!(
            refusal(StatusCode::CONFLICT, body),
            "cannot cancel: it has ended (command_refused)"
        );
        let body = r#"{"code":"invalid_order","detail":"see errors","errors":[
            {"pointer":"/lines/0","detail":"is empty"},{"pointer":"","detail":"is wrong"}]}"#;
        assert_eq!(
            refusal(StatusCode::UNPROCESSABLE_ENTITY, body),
            "see errors (invalid_order)\n- /lines/0: is empty\n- is wrong"
        );
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, "<html>"),
            "the server answered 502 Bad Gateway"
        );
    }

    #[test]
    fn a_path_stays_below_the_address_of_the_server() {
        let client =
            |server: &str| Client::try_new(arguments(server.to_owned())).expect("a client");
        for (server, url) in [
            ("http://host:1", "http://host:1/instances/a%2Fb"),
            ("http://host:1/amends/", "http://host:1/amends/instances/a%2Fb"),
        ] {
            let made = client(server).url(&["instances", "a/b"]).expect("a URL");
            assert_eq!(made.as_str(), url);
        }
    }

    /// A server that loses its first answers, in these ways, and then accepts. Returns the keys of
    /// what was sent to it.
    async fn losing(lost: &'static [Option<&'static str>]) -> (Client, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = format!("http://{}", listener.local_addr().expect("an address"));
        let accepted = "202 Accepted";
        let serving = tokio::spawn(async move {
            let mut keys = Vec::new();
            for answer in lost.iter().copied().chain([Some(accepted)]) {
                let (mut stream, _) = listener.accept().await.expect("somebody");
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.expect("a request");
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                let key = text.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
                keys.push(key.expect("a key").to_owned());
                if let Some(status) = answer {
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
                    );
                    stream.write_all(answer.as_bytes()).await.expect("it listens");
                }
            }
            keys
        });
        (Client::try_new(arguments(server)).expect("a client"), serving)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_answer_is_lost_is_sent_again_under_the_same_key() {
        for lost in [&[][..], &[None], &[Some("503 Service Unavailable"), None]] {
            let (client, serving) = losing(lost).await;
            let told = client.post_once(&["instances"], &serde_json::json!({})).await;
            assert_eq!(told.expect("an answer"), "{}");
            let keys = serving.await.expect("it has served");
            assert_eq!(keys.len(), lost.len() + 1);
            assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_requests_have_two_keys() {
        let (client, serving) = losing(&[Some("202 Accepted")]).await;
        for _ in 0..2 {
            client.post_once(&["instances"], &()).await.expect("an answer");
        }
        let keys = serving.await.expect("it has served");
        assert_ne!(keys[0], keys[1]);
    }
}
