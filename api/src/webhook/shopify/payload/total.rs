//! Which parts a total of Shopify is made of.
//!
//! Some amounts are said twice, in another way each time: a tip as a line and as a member, shipping
//! as its lines and as what is left of it after discounts. The total says which of them count.

/// Amounts in minor units.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    /// What counts in any case: articles and tax, less discount, and everything certain.
    pub(super) certain: i128,
    /// What shipping may cost; the first, unless the total says otherwise.
    pub(super) shipping: Vec<i64>,
    /// What may count besides, or be in the lines already.
    pub(super) possible: Vec<(&'static str, i64)>,
}

/// What shipping costs, and what else counts.
pub(super) type Settled = (i64, Vec<(&'static str, i64)>);

/// Finds the parts that add up to a total. If none do, all of them count, so that a person sees them.
pub(super) fn settle(total_minor: i64, parts: &Parts) -> Settled {
    let all = (1_usize << parts.possible.len()) - 1;
    let choices = parts.shipping.iter().flat_map(|shipping| {
        (0..=all).rev().map(move |choice| (*shipping, chosen(&parts.possible, choice)))
    });
    let adds_up = |(shipping, besides): &Settled| {
        let besides: i128 = besides.iter().map(|(_, minor)| i128::from(*minor)).sum();
        parts.certain + i128::from(*shipping) + besides == i128::from(total_minor)
    };
    let first = (parts.shipping.first().copied().unwrap_or(0), parts.possible.clone());
    choices.into_iter().find(adds_up).unwrap_or(first)
}

/// Those whose bit is set.
fn chosen(possible: &[(&'static str, i64)], choice: usize) -> Vec<(&'static str, i64)> {
    let bits = possible.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1);
    bits.map(|(_, part)| *part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_says_what_counts() {
        let parts = |shipping: &[i64], possible: &[(&'static str, i64)]| Parts {
            certain: 2000,
            shipping: shipping.to_vec(),
            possible: possible.to_vec(),
        };
        let tip = ("tip", 300);
        let rounding = ("rounding", -1);
        for (total, shipping, possible, expected) in [
            (2500, &[500][..], &[][..], (500, vec![])),
            (2000, &[500, 0], &[], (0, vec![])),
            (2800, &[500], &[tip], (500, vec![tip])),
            (2500, &[500], &[tip], (500, vec![])),
            (2299, &[500, 0], &[tip, rounding], (0, vec![tip, rounding])),
            (2000, &[], &[], (0, vec![])),
            // Nothing adds up.
            (7, &[500, 0], &[tip], (500, vec![tip])),
        ] {
            assert_eq!(settle(total, &parts(shipping, possible)), expected, "{total}");
        }
    }
}
