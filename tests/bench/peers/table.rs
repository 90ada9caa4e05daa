//! Prints the figures of a scenario.

use std::fmt::Write;

use crate::peers::peer::{label_of, names};
use crate::peers::results::Series;

/// Returns a table: a line per quantity and server.
pub(crate) fn table(title: &str, series: &[Series], failures: &[(String, String)]) -> String {
    let mut lines = vec![["", "median", "min–max", "× floor", "× best peer"].map(str::to_owned)];
    for series in series {
        let quantity = &series.quantity;
        lines.push([
            format!("{}, {}", quantity.name, quantity.unit),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ]);
        for name in names().filter(|name| series.rounds.contains_key(*name)) {
            let (min, max) = series.range(name);
            lines.push([
                format!("  {}", label_of(name)),
                number(series.median(name)),
                format!("{}–{}", number(min), number(max)),
                number(series.to_floor(name)),
                number(series.to_best(name)),
            ]);
        }
    }
    let widths: [usize; 5] = std::array::from_fn(|column| {
        let cells = lines.iter().map(|cells| cells[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut table = format!("\n{title}\n\n");
    for cells in &lines {
        let [label, figures @ ..] = cells;
        let mut line = format!("{label:width$}", width = widths[0]);
        for (cell, width) in figures.iter().zip(&widths[1..]) {
            // Writing to a `String` cannot fail.
            let _ = write!(line, "  {cell:>width$}");
        }
        let _ = writeln!(table, "{}", line.trim_end());
    }
    for (name, reason) in failures {
        let _ = writeln!(table, "failed: {}: {reason}", label_of(name));
    }
    table
}

/// Returns a figure with three digits or more.
pub(crate) fn number(figure: f64) -> String {
    match figure.abs() {
        _ if figure.is_nan() => "–".to_owned(),
        0.0 => "0".to_owned(),
        small if small < 1.0 => format!("{figure:.3}"),
        medium if medium < 10.0 => format!("{figure:.2}"),
        large if large < 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}
