//! Whatever bytes come from outside are read or refused, and what is read is sound.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use amends_tests::fuzz::{Mutator, corpora, corpus, targets};

/// Per target.
const MUTATIONS: usize = 2_000;
const SEED: u64 = 4;
const CORPORA_BYTES_MAX: usize = 200 * 1024;

/// What makes a target fall, if anything does: what it has met before, or a mutation of it.
fn falls(read: fn(&[u8]), met: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    let mut mutator = Mutator::new(met.clone(), SEED);
    let mutated = std::iter::repeat_with(|| mutator.draw()).take(MUTATIONS);
    let mut inputs = met.into_iter().chain(mutated);
    inputs.find(|bytes| catch_unwind(AssertUnwindSafe(|| read(bytes))).is_err())
}

#[test]
fn every_target_reads_what_it_has_met_before_and_mutations_of_it() {
    let mut fallen = Vec::new();
    for (name, read) in targets() {
        let met = corpus(name);
        assert!(!met.is_empty(), "{name} has met nothing");
        fallen.extend(falls(read, met).map(|bytes| format!("{name}: {}", bytes.escape_ascii())));
    }
    assert!(fallen.is_empty(), "{}", fallen.join("\n"));
}

#[test]
fn every_corpus_has_a_target_and_all_of_them_stay_small() {
    let names: BTreeSet<_> = targets().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(corpora().into_iter().collect::<BTreeSet<_>>(), names);
    let bytes: usize = names.iter().flat_map(|name| corpus(name)).map(|met| met.len()).sum();
    assert!(bytes <= CORPORA_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn a_parser_that_falls_over_one_byte_is_noticed() {
    let met = || vec![b"{\"reason\":\"asked for\"}".to_vec()];
    let careless = |bytes: &[u8]| assert!(!bytes.contains(&0));
    assert!(falls(careless, met()).is_some_and(|bytes| bytes.contains(&0)));
    assert_eq!(falls(|_| (), met()), None);
}
