//! What of the commit a batch needs.
//!
//! The server sets up every part of a statement at each execution, however little there is to do in
//! it. A write that is alone would pay more for that than for itself, so what a batch has nothing
//! for is left out. A full batch has something for almost everything.

use std::sync::LazyLock;

/// The statement with all its parts.
const COMMIT: &str = include_str!("sql/commit.sql");

/// What there is something for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Deliveries and new instances.
    pub(super) start: bool,
    /// New instances that have a parent.
    pub(super) child: bool,
    /// Records of instances that do not change.
    pub(super) held: bool,
    /// Instances that change.
    pub(super) change: bool,
}

/// The statement of each combination, at its number.
static SHAPES: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..1 << 4).map(|number| Parts::of(number).text()).collect());

/// Every text that the commit may have.
#[must_use]
pub fn shapes() -> Vec<String> {
    SHAPES.clone()
}

impl Parts {
    fn of(number: usize) -> Self {
        let bit = |bit: usize| number >> bit & 1 == 1;
        Self { start: bit(0), child: bit(1), held: bit(2), change: bit(3) }
    }

    fn number(self) -> usize {
        let Self { start, child, held, change } = self;
        [start, child, held, change].into_iter().rev().fold(0, |sum, it| sum << 1 | usize::from(it))
    }

    /// The statement with these parts, and no others.
    pub(super) fn sql(self) -> &'static str {
        SHAPES.get(self.number()).map_or(COMMIT, String::as_str)
    }

    fn has(self, name: &str) -> bool {
        match name {
            "start" => self.start,
            "child" => self.child,
            "held" => self.held,
            "change" => self.change,
            // What has no such name is always needed.
            _ => true,
        }
    }

    fn text(self) -> String {
        let mut text = String::with_capacity(COMMIT.len());
        let mut is_needed = true;
        for line in COMMIT.lines() {
            let mark = line.trim_start().strip_prefix("-- ").unwrap_or_default();
            if let Some(name) = mark.strip_prefix("if ") {
                is_needed = self.has(name);
            } else if let Some(instead) = mark.strip_prefix("else ") {
                text.push_str(if is_needed { "" } else { instead });
                is_needed = true;
            } else if is_needed {
                text.push_str(line);
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_combination_has_a_text_of_its_own_without_what_it_does_not_need() {
        let shapes = shapes();
        for (number, shape) in shapes.iter().enumerate() {
            let parts = Parts::of(number);
            assert_eq!(parts.number(), number);
            assert_eq!(parts.sql(), shape);
            for (part, words) in [
                (parts.start, "insert into amends.delivery"),
                (parts.start, "insert into amends.instance"),
                (parts.start, "insert into amends.attribute"),
                (parts.child, "for key share of i skip locked"),
                (parts.held, "from held_in h\n"),
                (parts.change, "update amends.instance"),
            ] {
                assert_eq!(shape.contains(words), part, "{words}: {shape}");
            }
            assert!(!shape.contains("-- if ") && !shape.contains("-- else "), "{shape}");
        }
    }
}
