//! Figures by name, and what is typical of them over several rounds.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// What one turn of a contestant came to. What is not known is not there.
pub type Figures = BTreeMap<String, f64>;

/// A figure over all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least of the rounds.
    pub least: f64,
    /// The most of the rounds.
    pub most: f64,
}

impl Spread {
    /// Of values that may be in any order; `None` if there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), least, most })
    }
}

impl Spread {
    /// The same in a unit that is so many times smaller, to the thousandth.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        let times = |value: f64| rounded(value * factor);
        Self { median: times(self.median), least: times(self.least), most: times(self.most) }
    }
}

/// Every figure over all rounds in which it is known.
pub(super) fn summary(rounds: &[Figures]) -> BTreeMap<String, Spread> {
    let names: BTreeSet<&String> = rounds.iter().flat_map(BTreeMap::keys).collect();
    names
        .into_iter()
        .filter_map(|name| {
            let values = rounds.iter().filter_map(|round| round.get(name).copied()).collect();
            Some((name.clone(), Spread::of(values)?))
        })
        .collect()
}

/// One figure divided by another, round by round.
pub(super) fn ratio(over: (&[Figures], &str), under: (&[Figures], &str)) -> Option<Spread> {
    let pairs = over.0.iter().zip(under.0);
    let ratios = pairs.filter_map(|(a, b)| {
        let (a, b) = (*a.get(over.1)?, *b.get(under.1)?);
        (b != 0.0).then(|| a / b)
    });
    Spread::of(ratios.collect())
}

/// To the thousandth.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(figures: &[(&str, f64)]) -> Figures {
        figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn the_median_is_in_the_middle_of_an_odd_and_of_an_even_number() {
        let spread = Spread::of(vec![3.0, 1.0, 9.0]);
        assert_eq!(spread, Some(Spread { median: 3.0, least: 1.0, most: 9.0 }));
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 9.0]).map(|it| it.median), Some(3.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn what_one_round_does_not_know_the_others_tell() {
        let rounds = [round(&[("a", 1.0)]), round(&[("a", 3.0), ("b", 5.0)])];
        let summary = summary(&rounds);
        assert_eq!(summary.get("a").map(|it| it.median), Some(2.0));
        assert_eq!(summary.get("b").map(|it| it.median), Some(5.0));
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The machine was half as fast in the second round: the ratio does not know.
        let a = [round(&[("rate", 300.0)]), round(&[("rate", 150.0)])];
        let b = [round(&[("speed", 100.0)]), round(&[("speed", 50.0)])];
        let spread = ratio((&a, "rate"), (&b, "speed"));
        assert_eq!(spread, Some(Spread { median: 3.0, least: 3.0, most: 3.0 }));
        assert_eq!(ratio((&a, "rate"), (&b, "unknown")), None);
        assert_eq!(ratio((&a, "rate"), (&[round(&[("speed", 0.0)])], "speed")), None);
    }
}
