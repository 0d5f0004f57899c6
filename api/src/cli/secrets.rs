//! Refuses secrets on the command line: everybody on the machine can read that, and shells keep it.

use clap::ArgMatches;
use clap::parser::ValueSource;
use reqwest::Url;

/// What of an option must not be on the command line.
#[derive(Clone, Copy)]
enum SecretPart {
    /// All of it.
    Whole,
    /// What an address has of a user's secrets.
    InAddress,
}

/// The options that hold secrets, and the settings in their place.
const OPTIONS: [(&str, SecretPart, &str); 7] = [
    ("tokens", SecretPart::Whole, "AMENDS_TOKENS"),
    ("token", SecretPart::Whole, "AMENDS_TOKEN"),
    ("shopify_secrets", SecretPart::Whole, "AMENDS_SHOPIFY_SECRETS"),
    ("events_url", SecretPart::Whole, "AMENDS_EVENTS_URL"),
    ("providers_url", SecretPart::InAddress, "AMENDS_PROVIDERS_URL"),
    ("database_url", SecretPart::InAddress, "DATABASE_URL"),
    // What it is in place of.
    ("against", SecretPart::InAddress, "DATABASE_URL"),
];

/// Says what to do instead, if there is a secret among what was typed.
pub(super) fn refusal(typed: &ArgMatches) -> Option<String> {
    let mut matches = typed;
    loop {
        if let Some((option, setting)) = secret_in(matches) {
            let option = option.replace('_', "-");
            return Some(format!(
                "--{option}: secrets are not taken from the command line, where others can read \
                 them; set {setting} in the environment, or {setting}_FILE to a file that holds it"
            ));
        }
        (_, matches) = matches.subcommand()?;
    }
}

fn secret_in(matches: &ArgMatches) -> Option<(&'static str, &'static str)> {
    let is_there = |option: &str| {
        matches.ids().any(|id| id.as_str() == option)
            && matches.value_source(option) == Some(ValueSource::CommandLine)
    };
    let mut typed = OPTIONS.into_iter().filter(|(option, ..)| is_there(option));
    let found = typed.find(|(option, secret, _)| match secret {
        SecretPart::Whole => true,
        SecretPart::InAddress => {
            let mut values = matches.get_raw(option).into_iter().flatten();
            values.any(|value| value.to_str().is_none_or(holds_secret))
        }
    });
    found.map(|(option, _, setting)| (option, setting))
}

/// Whether an address holds more than where something is. What is no address may be anything.
fn holds_secret(address: &str) -> bool {
    // No URL has several hosts, but an address of several databases.
    let one = address.split_once(',').map(|(first, rest)| {
        let others = rest.find(['/', '?']).map_or("", |end| &rest[end..]);
        let is_plain = !rest[..rest.len() - others.len()].contains('@');
        if is_plain { format!("{first}{others}") } else { String::new() }
    });
    Url::parse(one.as_deref().unwrap_or(address)).map_or(true, |url| {
        url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::CommandLine;
    use super::*;

    fn refused(line: &str) -> Option<String> {
        let words = line.split_whitespace();
        refusal(&CommandLine::command().try_get_matches_from(words).expect("a command line"))
    }

    #[test]
    fn a_secret_that_is_typed_is_refused_with_the_way_out_and_not_repeated() {
        for (line, setting) in [
            ("amends serve --tokens a:admin:hunter2", "AMENDS_TOKENS"),
            ("amends serve --shopify-secrets a.example=hunter2", "AMENDS_SHOPIFY_SECRETS"),
            ("amends serve --events-url http://a/?key=hunter2", "AMENDS_EVENTS_URL"),
            ("amends serve --providers-url http://a:hunter2@b", "AMENDS_PROVIDERS_URL"),
            ("amends verify --database-url postgres://a:hunter2@b/c", "DATABASE_URL"),
            ("amends bench --database-url postgres://b/c?password=hunter2", "DATABASE_URL"),
            ("amends check --against postgres://a:hunter2@b/c", "DATABASE_URL"),
            ("amends check --against hunter2", "DATABASE_URL"),
            ("amends verify --database-url postgres://a:hunter2@b:1,c:2/d", "DATABASE_URL"),
            ("amends verify --database-url postgres://a:x,hunter2@b:1/d", "DATABASE_URL"),
            ("amends verify --database-url postgres://b:1,c:2/d?password=hunter2", "DATABASE_URL"),
            ("amends instances list --token hunter2", "AMENDS_TOKEN"),
            ("amends schedules pause nightly --reason why --token hunter2", "AMENDS_TOKEN"),
        ] {
            let refused = refused(line).unwrap_or_else(|| panic!("taken: {line}"));
            let ways = [format!("set {setting} in"), format!("{setting}_FILE to")];
            assert!(ways.iter().all(|way| refused.contains(way)), "{line}: {refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn where_something_is_and_where_a_secret_is_may_be_typed() {
        for line in [
            "amends serve --tokens-file tokens --providers-url http://127.0.0.1:1",
            "amends verify --database-url postgres://amends@localhost/amends?host=/tmp/socket",
            "amends check --against postgres://amends@localhost/amends",
            "amends serve --database-url postgres://amends@pg1:1,pg2:2/amends?connect_timeout=3",
            "amends instances list --token-file token --server http://127.0.0.1:1",
            "amends workflows",
            "amends bench --against ../before/target/release/amends",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
    }

    #[test]
    fn every_option_that_holds_a_secret_can_be_given_in_a_file_too() {
        fn options(command: &clap::Command, found: &mut Vec<String>) {
            found.extend(command.get_arguments().map(|option| option.get_id().to_string()));
            command.get_subcommands().for_each(|it| options(it, found));
        }
        let mut found = Vec::new();
        options(&CommandLine::command(), &mut found);
        for (option, ..) in OPTIONS {
            assert!(found.iter().any(|it| it == option), "{option}");
            let file = format!("{option}_file");
            assert!(option == "against" || found.contains(&file), "{file}");
        }
    }
}
