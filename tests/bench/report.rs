//! The figures of a run as a table to read and as JSON to keep.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::args::Options;
use crate::machine::Machine;

#[derive(Debug)]
pub(crate) struct Report {
    machine: String,
    runs: String,
    rows: Vec<Row>,
}

/// One figure of both sides of a comparison, over all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    sides: Sides,
    base: Vec<f64>,
    measured: Vec<f64>,
    pub(crate) target: Option<Target>,
}

/// What a row compares: the names of its columns and of its lists in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sides {
    FloorAndWscast,
    WithoutAndWithStalled,
    MemoryAndSqlite,
    NormalAndFull,
    WithoutAndWithReturning,
    PlainAndTls,
    UnlimitedAndLimited,
    AloneAndShared,
    MemoryAndRedis,
    OneAndThreeNodes,
}

/// The most a median may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Of the measured figure over its base.
    Ratio(f64),
    /// Of the measured figure.
    Value(f64),
}

/// Least, middle and greatest of a figure's rounds.
#[derive(Clone, Copy, Debug)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Report {
    pub(crate) fn new(machine: &Machine, options: &Options) -> Report {
        let plan = options.stall_plan();
        let runs = format!(
            "{} round(s); A to C: {} clients, {} s each; D and E: {} connections; \
             F: {} + {} clients, {} s each, {} bytes, outbox {} bytes, slow timeout {} s; \
             N: {} clients, {} rooms; server {}{}",
            options.rounds(),
            options.clients(),
            options.seconds(),
            options.idle(),
            plan.healthy,
            plan.stalled,
            plan.duration.as_secs_f64(),
            plan.payload_bytes,
            plan.outbox_bytes,
            plan.slow_timeout.as_secs_f64(),
            options.node_clients(),
            options.node_rooms(),
            options.server.display(),
            options
                .server_arg
                .iter()
                .map(|arg| format!(" {arg}"))
                .collect::<String>(),
        );
        Report {
            machine: machine.line.clone(),
            runs,
            rows: Vec::new(),
        }
    }

    pub(crate) fn extend(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub(crate) fn table(&self) -> String {
        let lines = self.lines();
        let widths: [usize; 6] = std::array::from_fn(|column| {
            lines
                .iter()
                .map(|cells| cells[column].chars().count())
                .max()
                .unwrap_or(0)
        });
        let mut table = format!(
            "{}\n{}\nmedian (min–max) of the rounds; ratio: of each round's pair\n\n",
            self.machine, self.runs
        );
        for cells in &lines {
            let padded = cells
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            let line = padded.collect::<Vec<_>>().join("  ");
            // Writing to a `String` cannot fail.
            let _ = writeln!(table, "{}", line.trim_end());
        }
        table
    }

    /// The rows, with heads above the first and wherever the sides change.
    fn lines(&self) -> Vec<[String; 6]> {
        let mut lines = Vec::new();
        let mut sides = None;
        for row in &self.rows {
            if sides.replace(row.sides) != Some(row.sides) {
                let [base, measured] = row.sides.names();
                lines.push(["what", base, measured, "ratio", "target", "met?"].map(str::to_owned));
            }
            lines.push(row.cells());
        }
        lines
    }

    pub(crate) fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let report = json!({ "machine": self.machine, "runs": self.runs, "rows": rows });
        format!("{report:#}\n")
    }
}

impl Sides {
    fn names(self) -> [&'static str; 2] {
        match self {
            Sides::FloorAndWscast => ["floor", "wscast"],
            Sides::WithoutAndWithStalled => ["without", "with stalled"],
            Sides::MemoryAndSqlite => ["memory", "SQLite"],
            Sides::NormalAndFull => ["SQLite, normal", "SQLite, full"],
            Sides::WithoutAndWithReturning => ["without", "with returning"],
            Sides::PlainAndTls => ["plain", "TLS"],
            Sides::UnlimitedAndLimited => ["no limits", "limits"],
            Sides::AloneAndShared => ["1 node, memory", "3 nodes, Redis"],
            Sides::MemoryAndRedis => ["memory", "Redis"],
            Sides::OneAndThreeNodes => ["1 node, Redis", "3 nodes, Redis"],
        }
    }
}

impl Row {
    pub(crate) fn new(what: String, unit: &'static str, sides: Sides) -> Row {
        Row {
            what,
            unit,
            sides,
            base: Vec::new(),
            measured: Vec::new(),
            target: None,
        }
    }

    /// Adds the figures of one round.
    pub(crate) fn pair(&mut self, base: f64, measured: f64) {
        self.base.push(base);
        self.measured.push(measured);
    }

    /// Of each round's pair; none where there is nothing to divide by.
    fn ratios(&self) -> Vec<f64> {
        self.measured
            .iter()
            .zip(&self.base)
            .filter(|(_, base)| **base != 0.0)
            .map(|(measured, base)| measured / base)
            .collect()
    }

    fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::Ratio(most) => Spread::of(&self.ratios()).median <= most,
            Target::Value(most) => Spread::of(&self.measured).median <= most,
        })
    }

    fn cells(&self) -> [String; 6] {
        let target = match self.target {
            Some(Target::Ratio(most)) => format!("ratio ≤ {most:.2}"),
            Some(Target::Value(most)) => format!("≤ {most} {}", self.unit),
            None => String::new(),
        };
        let met = match self.is_met() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        [
            self.what.clone(),
            Spread::of(&self.base).text(self.unit),
            Spread::of(&self.measured).text(self.unit),
            Spread::of(&self.ratios()).text(""),
            target,
            met.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let target = match self.target {
            Some(Target::Ratio(most)) => json!({ "ratio_max": most }),
            Some(Target::Value(most)) => json!({ "value_max": most }),
            None => Value::Null,
        };
        let [base, measured] = self.sides.names();
        json!({
            "what": self.what,
            "unit": self.unit,
            base: self.base,
            measured: self.measured,
            "ratio": self.ratios(),
            "ratio_median": Spread::of(&self.ratios()).median,
            "target": target,
            "met": self.is_met(),
        })
    }
}

impl Spread {
    fn of(figures: &[f64]) -> Spread {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let (last, middle) = (sorted.len().saturating_sub(1), sorted.len() / 2);
        // The middle of an even number of figures lies between two.
        let median = if sorted.len().is_multiple_of(2) {
            (at(last / 2) + at(middle)) / 2.0
        } else {
            at(middle)
        };
        Spread {
            min: at(0),
            median,
            max: at(last),
        }
    }

    fn text(&self, unit: &str) -> String {
        if self.median.is_nan() {
            return "–".to_owned();
        }
        let digits = match self.median {
            0.0 => 0,
            small if small < 1.0 => 3,
            medium if medium < 100.0 => 2,
            _ => 0,
        };
        let Spread { min, median, max } = self;
        let space = if unit.is_empty() { "" } else { " " };
        format!("{median:.digits$}{space}{unit} ({min:.digits$}–{max:.digits$})")
    }
}
