//! Which due instances are taken up first.

use serde::{Deserialize, Serialize};

/// How urgent an instance is. It is taken up before due instances of lower priority, which have a
/// small share of what is taken up, so that a flood does not keep them waiting for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    High,
    /// As usual.
    #[default]
    Normal,
    /// When hardly anything else is due.
    Low,
}

impl Priority {
    /// As stored: lower comes first.
    pub(crate) fn number(self) -> i16 {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    /// Reads a stored one.
    pub(crate) fn read(number: i16) -> Self {
        match number {
            0 => Self::High,
            2 => Self::Low,
            _ => Self::Normal,
        }
    }
}
