//! What was measured, beside the bound that it has to hold.

use chrono::TimeDelta;

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    missed: usize,
}

impl Report {
    /// A time that has to be no longer than so many seconds; `None`: it did not come about.
    pub(crate) fn seconds(&mut self, what: &str, measured: Option<TimeDelta>, bound: f64) {
        match measured {
            Some(measured) => {
                let seconds = seconds(measured);
                self.line(
                    seconds <= bound,
                    what,
                    &format!("{seconds:.1} s"),
                    &format!("<= {bound} s"),
                );
            }
            None => self.line(false, what, "never", &format!("<= {bound} s")),
        }
    }

    /// A number that has to be no larger than this.
    pub(crate) fn at_most(&mut self, what: &str, measured: usize, bound: usize) {
        self.line(measured <= bound, what, &measured.to_string(), &format!("<= {bound}"));
    }

    /// A number that has to be no smaller than this: else the run proves nothing.
    pub(crate) fn at_least(&mut self, what: &str, measured: usize, bound: usize) {
        self.line(measured >= bound, what, &measured.to_string(), &format!(">= {bound}"));
    }

    /// Something that has no bound.
    pub(crate) fn told(&self, what: &str, measured: &str) {
        println!("       {what:<68} {measured:>10}");
    }

    /// Something of which there has to be nothing; the first few are named.
    pub(crate) fn none(&mut self, what: &str, found: &[String]) {
        self.at_most(what, found.len(), 0);
        for one in found.iter().take(10) {
            println!("        {one}");
        }
    }

    fn line(&mut self, is_held: bool, what: &str, measured: &str, bound: &str) {
        self.missed += usize::from(!is_held);
        let verdict = if is_held { "ok" } else { "MISSED" };
        println!("{verdict:<7}{what:<68} {measured:>10}   {bound}");
    }

    /// How many bounds were not held.
    pub(crate) fn missed(&self) -> usize {
        self.missed
    }
}

/// As it is told.
pub(crate) fn seconds(time: TimeDelta) -> f64 {
    time.as_seconds_f64()
}
