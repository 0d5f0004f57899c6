//! What of a configuration is taken, and what is not.

use super::*;

fn database(url: Option<&str>) -> DatabaseArguments {
    DatabaseArguments {
        database_url: url.map(str::to_owned),
        database_url_file: None,
        data_dir: DATA_DIR_DEFAULT.into(),
        pg_bin: None,
    }
}

/// A token that is long enough.
const LONG: &str = "0123456789abcdef0123456789abcdef";

fn arguments() -> Arguments {
    let tokens = format!(
        "anna:operator:s3cret:with{LONG},shop1:ingest:a:b{LONG}:Acme.example|b.example,\
         shop2@2027-03-31:ingest:abc{LONG}:*"
    );
    Arguments {
        listen: "127.0.0.1:0".to_owned(),
        metrics_listen: None,
        connections_max: None,
        connections_per_address_max: None,
        database: database(Some("postgres://amends:hunter2@db/amends")),
        providers_url: None,
        providers_url_file: None,
        tokens: Some(tokens),
        tokens_file: None,
        shopify_secrets: Some("Acme.myshopify.com=shpss_1|shpss_2".to_owned()),
        shopify_secrets_file: None,
        events_url: Some("https://events.example.com/hook?key=hunter3".to_owned()),
        events_url_file: None,
        instances_max: None,
        lease_seconds: None,
        wait_database: None,
        on_lost_commits: None,
        durability: None,
        packing: None,
        packing_late_seconds: None,
        stock: None,
        stock_kept_seconds: None,
    }
}

/// What is wrong with these tokens.
fn wrong_tokens(tokens: &str) -> Vec<String> {
    let arguments = Arguments { tokens: Some(tokens.to_owned()), ..arguments() };
    Config::try_from(arguments).map_or_else(|problems| problems.0, |_| Vec::new())
}

#[test]
fn a_good_configuration_is_read_and_shows_no_secret() {
    let config = Config::try_from(arguments()).expect("a configuration");
    assert_eq!(config.instances_max, INSTANCES_MAX_DEFAULT);
    assert_eq!(config.lease, amends::Settings::default().lease);
    assert_eq!(config.setup, Setup::default());
    let bound: Vec<_> =
        config.http.tokens.iter().map(|token| token.binding().to_string()).collect();
    assert_eq!(bound, ["every shop", "acme.example, b.example", "every shop"]);
    assert_eq!(config.http.shopify.secrets("acme.myshopify.com").len(), 2);
    let shown = format!("{config:?}");
    for secret in ["hunter2", "hunter3", "s3cret", "a:b", "abc", "shpss"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(shown.contains("anna"), "{shown}");
}

#[test]
fn without_a_database_a_private_one_is_used() {
    for url in [None, Some("")] {
        let config = Config::try_from(Arguments { database: database(url), ..arguments() });
        let database = config.expect("a configuration").database;
        assert!(matches!(database, Database::Embedded { .. }), "{database:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_reported_at_once_and_no_secret_with_it() {
    let wrong = Arguments {
        listen: "8080".to_owned(),
        database: database(Some("mysql://root:hunter2@db")),
        metrics_listen: Some("9090".to_owned()),
        connections_max: Some("0".to_owned()),
        connections_per_address_max: Some("many".to_owned()),
        providers_url: Some("localhost".to_owned()),
        events_url: Some("hunter3".to_owned()),
        instances_max: Some("0".to_owned()),
        lease_seconds: Some("2".to_owned()),
        wait_database: Some("soon".to_owned()),
        on_lost_commits: Some("shrug".to_owned()),
        durability: Some("some".to_owned()),
        packing: Some("elves".to_owned()),
        packing_late_seconds: Some("0".to_owned()),
        stock: Some("attic".to_owned()),
        stock_kept_seconds: Some("long".to_owned()),
        tokens: Some(format!(
            "hunter4,anna:boss:hunter5,:viewer:{LONG},a:viewer:hunterx{LONG},\
             a:viewer:huntery{LONG},b:ingest:hunter8{LONG},c:ingest:hunter9{LONG}:hunter10,\
             d:admin:hunter11{LONG},e:viewer:hunter11{LONG},f@hunter12:viewer:hunter13{LONG},\
             g:viewer:hunter14"
        )),
        shopify_secrets: Some("hunter6,acme=,acme=hunter7".to_owned()),
        ..arguments()
    };
    let problems = Config::try_from(wrong).expect_err("problems");
    assert_eq!(problems.0.len(), 28, "{problems}");
    assert!(!problems.to_string().contains("hunter"), "{problems}");
}

#[test]
fn an_address_of_several_servers_is_taken_and_what_it_cannot_have_is_named() {
    let wrong_address = |url: &str| {
        let arguments = Arguments { database: database(Some(url)), ..arguments() };
        Config::try_from(arguments).map_or_else(|problems| problems.0, |_| Vec::new())
    };
    let servers = "postgres://amends:hunter2@pg1:5432,pg2:5433/amends";
    let taken = wrong_address(&format!("{servers}?target_session_attrs=read-write"));
    assert_eq!(taken, Vec::<String>::new());
    let refused = wrong_address(&format!("{servers}?target_session_attrs=prefer-standby"));
    assert_eq!(refused.len(), 1);
    assert!(refused[0].starts_with("DATABASE_URL: target_session_attrs has to be"), "{refused:?}");
}

#[test]
fn an_ingest_token_that_names_no_shops_is_not_taken() {
    for shops in ["", ":", ":def"] {
        let problems = wrong_tokens(&format!("shop:ingest:{LONG}{shops}"));
        assert_eq!(problems.len(), 1, "{shops}: {problems:?}");
        assert!(problems[0].starts_with("AMENDS_TOKENS, entry 1: "), "{problems:?}");
    }
}

#[test]
fn a_token_is_long_enough_and_nobody_elses() {
    assert_eq!(wrong_tokens(&format!("a:viewer:{LONG},b:viewer:{LONG}2")), Vec::<String>::new());
    for (tokens, why) in [
        (format!("a:viewer:{}", &LONG[1..]), "entry 1: the token has 31 characters, and needs 32"),
        ("a:ingest::*".to_owned(), "entry 1: the token has 0 characters"),
        (format!("a:viewer:{LONG},b:admin:{LONG}"), "entry 2: the token is the one of a"),
        (format!("a:viewer:{LONG}\na:admin:{LONG}2"), "entry 2: the name a is there twice"),
        (format!("a:viewer:{LONG}\u{e9}"), "entry 1: a token is visible ASCII"),
        (format!("a@31.3.2027:viewer:{LONG}"), "entry 1: behind the @ stands the last day"),
    ] {
        let problems = wrong_tokens(&tokens);
        assert_eq!(problems.len(), 1, "{tokens}: {problems:?}");
        assert!(problems[0].contains(why), "{problems:?}");
    }
}

#[test]
fn a_token_expires_after_the_day_that_is_named_with_it() {
    let tokens = Config::try_from(arguments()).expect("a configuration").http.tokens;
    let expiries: Vec<_> = tokens.iter().map(|token| token.expires_at()).collect();
    assert_eq!(expiries[..2], [None, None]);
    assert_eq!(expiries[2].expect("it expires").to_rfc3339(), "2027-04-01T00:00:00+00:00");
}

#[test]
fn secrets_are_read_from_files_and_a_file_that_is_read_again_is_remembered() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        Some(path.to_string_lossy().into_owned())
    };
    let tokens = format!("# who looks\nanna:viewer:{LONG}\n\nshop:ingest:{LONG}2:*\n");
    let read = Config::try_from(Arguments {
        database: DatabaseArguments {
            database_url_file: file("database", "postgres://amends:hunter2@db/amends\n"),
            ..database(None)
        },
        tokens: None,
        tokens_file: file("tokens", &tokens),
        shopify_secrets: None,
        shopify_secrets_file: file("shops", "acme.myshopify.com=shpss_1|shpss_2\n"),
        events_url: None,
        events_url_file: file("events", "https://events.example.com/hook?key=hunter3\n"),
        providers_url_file: file("providers", "http://providers:1\n"),
        ..arguments()
    });
    let read = read.expect("a configuration");
    let names: Vec<_> = read.http.tokens.iter().map(|token| token.name().to_owned()).collect();
    assert_eq!(names, ["anna", "shop"]);
    assert_eq!(read.http.shopify.secrets("acme.myshopify.com").len(), 2);
    assert_eq!(read.providers_url.expose(), "http://providers:1");
    assert!(read.events_url.is_some_and(|url| url.expose().ends_with("hunter3")));
    assert!(matches!(read.database, Database::Url(url) if url.expose().ends_with("/amends")));
    assert_eq!(read.files.tokens, Some(folder.path().join("tokens")));
    assert_eq!(read.files.shopify_secrets, Some(folder.path().join("shops")));
}

#[test]
fn a_secret_that_is_given_twice_or_in_a_file_that_cannot_be_used_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| Some(folder.path().join(name).to_string_lossy().into_owned());
    std::fs::write(folder.path().join("empty"), "\n").expect("it can be written");
    std::fs::write(folder.path().join("fat"), vec![b'x'; 1024 * 1024 + 1]).expect("the same");
    std::fs::write(folder.path().join("binary"), [0xff; 40]).expect("the same");
    let wrong = |tokens, tokens_file| {
        let arguments = Arguments { tokens, tokens_file, ..arguments() };
        Config::try_from(arguments).expect_err("problems").0
    };
    let twice = wrong(arguments().tokens, path("tokens"));
    assert_eq!(twice, ["AMENDS_TOKENS and AMENDS_TOKENS_FILE are both set: keep one of them"]);
    for (name, why) in [
        ("missing", "cannot be read"),
        ("empty", "is empty"),
        ("fat", "is larger than 1024 KiB"),
        ("binary", "cannot be read"),
    ] {
        let problems = wrong(None, path(name));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("AMENDS_TOKENS_FILE: the file "), "{problems:?}");
        assert!(problems[0].contains(why), "{problems:?}");
    }
}

#[test]
fn connections_are_limited_unless_somebody_says_otherwise() {
    let limits = |all: Option<&str>, per_address: Option<&str>| {
        let arguments = Arguments {
            connections_max: all.map(str::to_owned),
            connections_per_address_max: per_address.map(str::to_owned),
            ..arguments()
        };
        Config::try_from(arguments).expect("a configuration").http.connections
    };
    assert_eq!(limits(None, None), ConnectionLimits { all: 4096, per_address: Some(1024) });
    assert_eq!(limits(Some("7"), Some("0")), ConnectionLimits { all: 7, per_address: None });
}
