//! A secret as it is given: in a setting, or in the file that a setting ending in `_FILE` names.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Problems;
use super::reader::Reader;
use crate::secret::Secret;

/// The setting of tokens.
pub(crate) const TOKENS: &str = "AMENDS_TOKENS";
/// The setting of the secrets of Shopify's shops.
pub(crate) const SHOPIFY_SECRETS: &str = "AMENDS_SHOPIFY_SECRETS";

/// How large a file of secrets may be. Somebody may have named a device or a log.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A secret, and where it is from.
pub(super) struct SecretSetting {
    name: &'static str,
    pub(super) text: String,
    pub(super) file: Option<PathBuf>,
}

impl SecretSetting {
    /// The setting that it is from.
    pub(super) fn setting(&self) -> String {
        if self.file.is_some() { format!("{}_FILE", self.name) } else { self.name.to_owned() }
    }
}

impl Reader {
    /// A secret from one place or the other; `None` if it is not given, or cannot be read.
    pub(super) fn secret(
        &mut self,
        name: &'static str,
        text: Option<String>,
        file: Option<String>,
    ) -> Option<SecretSetting> {
        let given = |it: Option<String>| it.filter(|it| !it.is_empty());
        match (given(text), given(file)) {
            (None, None) => None,
            (Some(text), None) => Some(SecretSetting { name, text, file: None }),
            (None, Some(file)) => {
                let file = PathBuf::from(file);
                match read_file(&file) {
                    Ok(text) => Some(SecretSetting { name, text, file: Some(file) }),
                    Err(problem) => {
                        self.problem(format!("{name}_FILE: {problem}"));
                        None
                    }
                }
            }
            (Some(_), Some(_)) => {
                self.problem(format!("{name} and {name}_FILE are both set: keep one of them"));
                None
            }
        }
    }
}

/// A secret from the setting `name` or from the file that `name`_FILE names.
///
/// # Errors
///
/// Both are given, or the file cannot be read.
pub fn secret(
    name: &'static str,
    text: Option<String>,
    file: Option<String>,
) -> Result<Option<Secret>, Problems> {
    let mut reader = Reader::default();
    let given = reader.secret(name, text, file);
    if reader.problems.is_empty() {
        Ok(given.map(|given| Secret::new(given.text)))
    } else {
        Err(Problems(reader.problems))
    }
}

/// What a file of secrets holds, without the space around it; else what is wrong with it.
pub(crate) fn read_file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let shown = path.display();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| format!("the file {shown} cannot be read: {error}"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("the file {shown} is larger than {} KiB", FILE_BYTES_MAX / 1024));
    }
    let text = text.trim();
    if text.is_empty() { Err(format!("the file {shown} is empty")) } else { Ok(text.to_owned()) }
}
