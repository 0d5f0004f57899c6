//! Every parser of outside bytes, with bytes that it has met before and mutations of them.
//!
//! The corpora are `tests/fuzz/corpus/<target>/*`; the same functions are the targets of a real
//! fuzzer in `tests/fuzz`.

use std::path::PathBuf;

use amends::fuzz::Target;

/// Words that parsers are known to stumble over.
const WORDS: [&str; 24] = [
    "\0",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\n",
    "%00",
    "%",
    "null",
    "-1",
    "0",
    "1e999",
    "9223372036854775808",
    "2026-03-29T02:30:00Z",
    "*/",
    "é",
    "=",
    "~",
];

/// Every target there is.
pub fn targets() -> impl Iterator<Item = Target> {
    let crates =
        [amends::fuzz::TARGETS, amends_workflows::fuzz::TARGETS, amends_api::fuzz::TARGETS];
    crates.into_iter().flatten().copied()
}

/// Has the target of this name read `bytes`.
pub fn run(name: &str, bytes: &[u8]) {
    let target = targets().find(|(known, _)| *known == name);
    let (_, read) = target.unwrap_or_else(|| panic!("there is no target {name}"));
    read(bytes);
}

/// The names of the corpora, in order.
#[must_use]
pub fn corpora() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("there are corpora");
    let names = entries.map(|entry| entry.expect("it is there").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What a target has met before, in order of the files' names.
#[must_use]
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder().join(name));
    let entries = entries.unwrap_or_else(|error| panic!("the corpus of {name}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it is there").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("it can be read")).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Mutations of a corpus: the same for the same seed.
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    state: u64,
}

impl Mutator {
    /// Mutates `corpus`, which is not empty.
    #[must_use]
    pub fn new(corpus: Vec<Vec<u8>>, seed: u64) -> Self {
        Self { corpus, state: seed }
    }

    /// The next mutation: up to eight changes of something that was met before.
    pub fn draw(&mut self) -> Vec<u8> {
        let chosen = self.below(self.corpus.len());
        let mut bytes = self.corpus[chosen].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let (at, end) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
        let (start, end) = (at.min(end), at.max(end));
        match self.below(7) {
            0 => bytes.insert(at, self.below(256) as u8),
            1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            2 => drop(bytes.drain(start..end.min(start + 16))),
            3 => {
                let repeated = bytes[start..end.min(start + 64)].to_vec();
                bytes.splice(at..at, repeated);
            }
            4 => {
                let other = self.below(self.corpus.len());
                let tail = self.below(self.corpus[other].len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&self.corpus[other][tail..]);
            }
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(start..end.min(start + 4), word.bytes());
            }
        }
    }

    /// A number below `limit`, which is more than 0: the next one of splitmix64.
    fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}
