//! Where the database is: one server, or several of which one is the primary, as libpq writes it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

/// How long a server has to let a session begin, if it is the only one.
const ALONE: Duration = Duration::from_secs(5);
/// The same where there are others to ask.
const AMONG_OTHERS: Duration = Duration::from_secs(2);
/// The longest time that may be asked for: who waits longer for a session loses the lease.
const SECONDS_MAX: u64 = 10;

/// Where the database is. Made of what one connects with, or read from a URL:
///
/// ```
/// let url = "postgres://amends@pg1:5432,pg2:5433/amends?target_session_attrs=read-write";
/// let address: amends::Address = url.parse()?;
/// assert_eq!(address.to_string(), "pg1:5432, pg2:5433");
/// # Ok::<(), amends::BadAddress>(())
/// ```
#[derive(Clone)]
pub struct Address {
    servers: Vec<PgConnectOptions>,
    target: Target,
    connect_timeout: Option<Duration>,
}

/// Which servers will do. The engine writes, so it leaves a standby whatever is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// What only reads may read from a standby.
    Any,
    Primary,
}

/// Why an address cannot be used. Repeats nothing of it that may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It is no URL of a database.
    #[error("has to be a URL, such as postgres://user@host/database")]
    Form,
    /// A server is named in a way that cannot be read.
    #[error(
        "has to name each server as host or host:port, with commas between them, such as \
         postgres://user@pg1:5432,pg2:5432/database"
    )]
    Servers,
    /// There is not one port for each host, or one for all.
    #[error("has to name one port for each host, or one for all")]
    Ports,
    /// It asks for a server that cannot be written to.
    #[error(
        "target_session_attrs has to be read-write, primary or any: the engine writes, and leaves a \
         standby at once"
    )]
    Target,
    /// The time that a server has is none.
    #[error("connect_timeout has to be a number of seconds, 1 to {SECONDS_MAX}")]
    Timeout,
    /// Names of hosts and their addresses side by side.
    #[error("hostaddr cannot be used: name the servers by host")]
    HostAddress,
}

impl Address {
    /// What one connects with, in the order in which servers are asked.
    pub(super) fn servers(&self) -> &[PgConnectOptions] {
        &self.servers
    }

    /// How long one server has to let a session begin.
    pub(super) fn connect_timeout(&self) -> Duration {
        let usual = if self.servers.len() > 1 { AMONG_OTHERS } else { ALONE };
        self.connect_timeout.unwrap_or(usual)
    }

    /// Whether a session that only reads has to be on the primary as well.
    pub(super) fn wants_primary(&self) -> bool {
        self.target == Target::Primary
    }

    /// The same for what every server is connected to with.
    pub(super) fn map(mut self, change: impl Fn(PgConnectOptions) -> PgConnectOptions) -> Self {
        self.servers = self.servers.into_iter().map(change).collect();
        self
    }

    /// What one connects with, if there is one server alone.
    #[must_use]
    pub fn only(&self) -> Option<&PgConnectOptions> {
        if let [server] = &self.servers[..] { Some(server) } else { None }
    }
}

impl From<PgConnectOptions> for Address {
    fn from(server: PgConnectOptions) -> Self {
        Self { servers: vec![server], target: Target::Any, connect_timeout: None }
    }
}

/// The servers, for people: no user, no password.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<_> = self.servers.iter().map(place).collect();
        formatter.write_str(&places.join(", "))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Address({self})")
    }
}

/// Where a server is.
pub(super) fn place(server: &PgConnectOptions) -> String {
    match server.get_socket() {
        Some(socket) => format!("{}:{}", socket.display(), server.get_port()),
        None => format!("{}:{}", server.get_host(), server.get_port()),
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(url: &str) -> Result<Self, BadAddress> {
        let (scheme, rest) = url.split_once("://").ok_or(BadAddress::Form)?;
        if !["postgres", "postgresql"].contains(&scheme) {
            return Err(BadAddress::Form);
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let user = if user.is_empty() { String::new() } else { format!("{user}@") };
        let query = Query::read(query)?;
        let servers = query.servers(hosts)?.into_iter().map(|(place, more)| {
            let mut pairs = query.others.clone();
            pairs.extend(more);
            let pairs: Vec<_> =
                pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let url = format!("{scheme}://{user}{place}{path}?{}", pairs.join("&"));
            let several = hosts.contains(',');
            let bad = if several { BadAddress::Servers } else { BadAddress::Form };
            PgConnectOptions::from_str(&url).map_err(|_| bad)
        });
        let servers = servers.collect::<Result<_, _>>()?;
        Ok(Self { servers, target: query.target, connect_timeout: query.connect_timeout })
    }
}

/// What stands behind the question mark.
struct Query<'a> {
    hosts: Option<&'a str>,
    ports: Option<&'a str>,
    target: Target,
    connect_timeout: Option<Duration>,
    /// What concerns every server, and is not ours to read.
    others: Vec<(&'a str, &'a str)>,
}

/// Where a server is as a URL says it: before the path, and behind the question mark.
type Place<'a> = (&'a str, Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    fn read(text: &'a str) -> Result<Self, BadAddress> {
        let (hosts, ports, others) = (None, None, Vec::new());
        let mut query = Self { hosts, ports, target: Target::Any, connect_timeout: None, others };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "target_session_attrs" => query.target = target(value)?,
                "connect_timeout" => query.connect_timeout = Some(seconds(value)?),
                "hostaddr" => return Err(BadAddress::HostAddress),
                "host" => query.hosts = Some(value),
                "port" => query.ports = Some(value),
                _ => query.others.push((name, value)),
            }
        }
        Ok(query)
    }

    /// The servers that are named before the path or, if there are any, behind the question mark.
    fn servers(&self, before_path: &'a str) -> Result<Vec<Place<'a>>, BadAddress> {
        let Some(hosts) = self.hosts else {
            let port = self.ports.map(|port| ("port", port));
            let hosts: Vec<_> = before_path.split(',').collect();
            if hosts.len() > 1 && hosts.iter().any(|host| host.is_empty()) {
                return Err(BadAddress::Servers);
            }
            return Ok(hosts.into_iter().map(|host| (host, port.into_iter().collect())).collect());
        };
        let hosts: Vec<_> = hosts.split(',').collect();
        let ports: Vec<_> = self.ports.map(|ports| ports.split(',').collect()).unwrap_or_default();
        if ports.len() > 1 && ports.len() != hosts.len() {
            return Err(BadAddress::Ports);
        }
        if before_path.contains(',') || hosts.iter().any(|host| host.is_empty()) {
            return Err(BadAddress::Servers);
        }
        // A URL with a user names some host; the one behind the question mark takes its place.
        let before_path = if before_path.is_empty() { "localhost" } else { before_path };
        let port = |index: usize| ports.get(index).or_else(|| ports.first());
        let pairs = |(index, host)| {
            let port = port(index).map(|port| ("port", *port));
            (before_path, [("host", host)].into_iter().chain(port).collect())
        };
        Ok(hosts.into_iter().enumerate().map(pairs).collect())
    }
}

fn target(value: &str) -> Result<Target, BadAddress> {
    match value {
        "any" => Ok(Target::Any),
        "read-write" | "primary" => Ok(Target::Primary),
        _ => Err(BadAddress::Target),
    }
}

fn seconds(value: &str) -> Result<Duration, BadAddress> {
    let seconds = value.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds));
    seconds.map(Duration::from_secs).ok_or(BadAddress::Timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Address {
        url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn one_server_is_read_as_ever() {
        for (url, place) in [
            ("postgres://u:p@pg/amends", "pg:5432"),
            ("postgresql://pg:6432/amends?sslmode=require", "pg:6432"),
            ("postgres://u@[::1]:5433/amends", "[::1]:5433"),
            ("postgres://u@localhost/amends?host=/tmp/socket&port=5433", "/tmp/socket:5433"),
            ("postgres://u@%2Ftmp%2Fsocket/amends", "/tmp/socket:5432"),
        ] {
            let address = read(url);
            assert_eq!(address.to_string(), place, "{url}");
            assert_eq!(address.only().map(PgConnectOptions::get_database), Some(Some("amends")));
            assert_eq!(address.connect_timeout(), ALONE);
        }
    }

    #[test]
    fn several_servers_share_everything_but_their_places() {
        for url in [
            "postgres://u:p@pg1:5432,pg2:5433/amends?target_session_attrs=read-write&connect_timeout=3",
            "postgres://u:p@/amends?host=pg1,pg2&port=5432,5433&target_session_attrs=primary&connect_timeout=3",
        ] {
            let address = read(url);
            assert_eq!(address.to_string(), "pg1:5432, pg2:5433", "{url}");
            assert!(address.only().is_none() && address.wants_primary());
            assert_eq!(address.connect_timeout(), Duration::from_secs(3));
            for server in address.servers() {
                assert_eq!((server.get_username(), server.get_database()), ("u", Some("amends")));
            }
        }
        let any = read("postgres://pg1,pg2/amends?target_session_attrs=any&port=6000");
        assert_eq!(any.to_string(), "pg1:6000, pg2:6000");
        assert!(!any.wants_primary());
        assert_eq!(any.connect_timeout(), AMONG_OTHERS);
        let sockets = read("postgres:///amends?host=/one,/two&port=5433");
        assert_eq!(sockets.to_string(), "/one:5433, /two:5433");
    }

    #[test]
    fn what_cannot_be_had_is_refused_and_no_secret_is_repeated() {
        for (url, why) in [
            ("mysql://u:hunter2@pg/amends", BadAddress::Form),
            ("hunter2", BadAddress::Form),
            ("postgres://u:hunter2@pg:port/amends", BadAddress::Form),
            ("postgres://u:hunter2@pg1,,pg2/amends", BadAddress::Servers),
            ("postgres://u:hunter2@pg1:x,pg2/amends", BadAddress::Servers),
            ("postgres://u:hunter2@/amends?host=a,b&port=1,2,3", BadAddress::Ports),
            ("postgres://u:hunter2@pg/a?target_session_attrs=standby", BadAddress::Target),
            ("postgres://u:hunter2@pg/a?target_session_attrs=prefer-standby", BadAddress::Target),
            ("postgres://u:hunter2@pg/a?target_session_attrs=read-only", BadAddress::Target),
            ("postgres://u:hunter2@pg/a?connect_timeout=0", BadAddress::Timeout),
            ("postgres://u:hunter2@pg/a?hostaddr=10.0.0.1", BadAddress::HostAddress),
        ] {
            let refused = url.parse::<Address>().map(|it| it.to_string());
            assert_eq!(refused, Err(why.clone()), "{url}");
            assert!(!why.to_string().contains("hunter2"));
        }
        let shown = format!("{:?}", read("postgres://u:hunter2@pg1,pg2/amends?password=hunter3"));
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
