//! The table that a run prints, in Markdown.

use std::fmt;

/// Rows of measurements.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 5]>);

impl Table {
    /// Adds what was measured, the floor or peer beside it, their ratio and what was aimed for.
    pub(crate) fn row(&mut self, what: &str, ours: String, beside: String, ratio: Option<f64>, target: &str) {
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        println!("{what}: {ours} | {beside} | {ratio} | {target}");
        self.0.push([what.to_owned(), ours, beside, ratio, target.to_owned()]);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measured | ours | floor or peer, same run | ratio | target |\n|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}
