//! Asks a server over its HTTP API.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::table::{print, printable};

const TIMEOUT: Duration = Duration::from_secs(35);

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
    /// Token to ask with
    #[arg(long, env = "AMENDS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print what the server answered
    #[arg(long)]
    json: bool,
}

/// A server that can be asked.
pub(crate) struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<String>,
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
        let server = Url::parse(&arguments.server).context("--server is not an address")?;
        if server.cannot_be_a_base() {
            bail!("--server is not an address");
        }
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none());
        // No proxy leads to this machine.
        let is_here = matches!(server.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let http = if is_here { http.no_proxy() } else { http }.build()?;
        Ok(Self { http, server, token: arguments.token, json: arguments.json })
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
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let cannot = || format!("cannot ask {}", self.server);
        let answer = request.send().await.with_context(cannot)?;
        let status = answer.status();
        let body = answer.text().await.with_context(cannot)?;
        if status.is_success() { Ok(body) } else { bail!(refusal(status, &body)) }
    }
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
        text.push_str("\nset AMENDS_TOKEN or give --token");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let client = |server: &str| {
            Client::try_new(Arguments { server: server.to_owned(), token: None, json: false })
                .expect("a client")
        };
        for (server, url) in [
            ("http://host:1", "http://host:1/instances/a%2Fb"),
            ("http://host:1/amends/", "http://host:1/amends/instances/a%2Fb"),
        ] {
            let made = client(server).url(&["instances", "a/b"]).expect("a URL");
            assert_eq!(made.as_str(), url);
        }
    }
}
