//! Prints the figures of a run as a table, and writes them as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::args::Options;
use crate::machine::Machine;

#[derive(Debug)]
pub(crate) struct Report {
    machine: String,
    /// The settings of the run.
    settings: String,
    rows: Vec<Row>,
}

/// A figure of both sides of a comparison, in all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    label: String,
    unit: &'static str,
    columns: Columns,
    base: Vec<f64>,
    measured: Vec<f64>,
    target: Option<Target>,
}

/// The two sides of a comparison, which name the columns of the table and the lists in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    FloorAndWscast,
    /// Two servers, where `--against` names the old one.
    OldAndNew,
    WithoutAndWithStalled,
    MemoryAndSqlite,
    NormalAndFull,
    WithoutAndWithReturning,
    PlainAndTls,
    FullAndResumed,
    UnlimitedAndLimited,
    OneAndTwoCores,
    OneMemoryNodeAndThreeNodes,
    MemoryAndRedis,
    OneRedisNodeAndThreeNodes,
    OneMasterAndThree,
    OwnAndBenchCommand,
}

/// A limit on a median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Limits the measured figure divided by its base.
    RatioMax(f64),
    /// Limits how far that ratio is from 1.
    RatioWithin(f64),
    /// Limits the measured figure.
    ValueMax(f64),
}

/// The least, middle and greatest value of a figure.
#[derive(Clone, Copy, Debug)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Report {
    pub(crate) fn new(machine: &Machine, options: &Options) -> Report {
        Report {
            machine: machine.description.clone(),
            settings: settings_text(options),
            rows: Vec::new(),
        }
    }

    pub(crate) fn extend(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub(crate) fn table(&self) -> String {
        let lines = self.lines();
        let widths: [usize; 6] = std::array::from_fn(|column| {
            let cells = lines.iter().map(|cells| cells[column].chars().count());
            cells.max().unwrap_or(0)
        });
        let mut table = format!(
            "{}\n{}\nmedian (min–max) over the rounds; each ratio is taken within one round\n\n",
            self.machine, self.settings
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

    /// Returns the rows, with a heading wherever the columns change.
    fn lines(&self) -> Vec<[String; 6]> {
        let mut lines = Vec::new();
        let mut columns = None;
        for row in &self.rows {
            if columns.replace(row.columns) != Some(row.columns) {
                let [base, measured] = row.columns.names();
                let ratio = match row.columns {
                    Columns::OldAndNew => "new/old",
                    _ => "ratio",
                };
                let heading = ["figure", base, measured, ratio, "target", "met?"];
                lines.push(heading.map(str::to_owned));
            }
            lines.push(row.cells());
        }
        lines
    }

    pub(crate) fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let report = json!({ "machine": self.machine, "runs": self.settings, "rows": rows });
        format!("{report:#}\n")
    }
}

fn settings_text(options: &Options) -> String {
    let plan = options.stall_plan();
    let against = options.against.as_ref();
    let against = against.map_or(String::new(), |old| format!(" against {}", old.display()));
    let arguments = options.server_arg.iter().map(|arg| format!(" {arg}"));
    format!(
        "{} round(s); A to C: {} clients, {} s each; D and E: {} connections; \
         F: {} + {} clients, {} s each, {} bytes, outbox {} bytes, slow timeout {} s; \
         N: {} clients, {} rooms; R: {} rooms; server {}{against}{}",
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
        options.small_rooms(),
        options.server.display(),
        arguments.collect::<String>(),
    )
}

impl Columns {
    pub(crate) fn names(self) -> [&'static str; 2] {
        match self {
            Columns::FloorAndWscast => ["floor", "wscast"],
            Columns::OldAndNew => ["old", "new"],
            Columns::WithoutAndWithStalled => ["without", "with stalled"],
            Columns::MemoryAndSqlite => ["memory", "SQLite"],
            Columns::NormalAndFull => ["SQLite, normal", "SQLite, full"],
            Columns::WithoutAndWithReturning => ["without", "with returning"],
            Columns::PlainAndTls => ["plain", "TLS"],
            Columns::OneAndTwoCores => ["1 core", "2 cores"],
            Columns::FullAndResumed => ["full", "resumed"],
            Columns::UnlimitedAndLimited => ["no limits", "limits"],
            Columns::OneMemoryNodeAndThreeNodes => ["1 node, memory", "3 nodes, Redis"],
            Columns::MemoryAndRedis => ["memory", "Redis"],
            Columns::OneRedisNodeAndThreeNodes => ["1 node, Redis", "3 nodes, Redis"],
            Columns::OneMasterAndThree => ["1 master", "3 masters"],
            Columns::OwnAndBenchCommand => ["make bench", "wscast bench"],
        }
    }
}

impl Row {
    pub(crate) fn new(
        label: String,
        unit: &'static str,
        columns: Columns,
        target: Option<Target>,
    ) -> Row {
        Row {
            label,
            unit,
            columns,
            base: Vec::new(),
            measured: Vec::new(),
            target,
        }
    }

    pub(crate) fn add_round(&mut self, base: f64, measured: f64) {
        self.base.push(base);
        self.measured.push(measured);
    }

    pub(crate) fn has_value(&self) -> bool {
        let mut figures = self.base.iter().chain(&self.measured);
        figures.any(|figure| !figure.is_nan())
    }

    /// Returns the ratio of each round, except where the base is zero.
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
            Target::RatioMax(max) => Spread::of(&self.ratios()).median <= max,
            Target::RatioWithin(max) => (Spread::of(&self.ratios()).median - 1.0).abs() <= max,
            Target::ValueMax(max) => Spread::of(&self.measured).median <= max,
        })
    }

    fn cells(&self) -> [String; 6] {
        let target = match self.target {
            Some(Target::RatioMax(max)) => format!("ratio ≤ {max:.2}"),
            Some(Target::RatioWithin(max)) => format!("ratio 1 ± {max:.2}"),
            Some(Target::ValueMax(max)) => format!("≤ {max} {}", self.unit),
            None => String::new(),
        };
        let met = match self.is_met() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        [
            self.label.clone(),
            Spread::of(&self.base).text(self.unit),
            Spread::of(&self.measured).text(self.unit),
            Spread::of(&self.ratios()).ratio_text(),
            target,
            met.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let target = match self.target {
            Some(Target::RatioMax(max)) => json!({ "ratio_max": max }),
            Some(Target::RatioWithin(max)) => json!({ "ratio_within": max }),
            Some(Target::ValueMax(max)) => json!({ "value_max": max }),
            None => Value::Null,
        };
        let [base, measured] = self.columns.names();
        json!({
            "what": self.label,
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
        // With an even number of figures, the median is the mean of the two in the middle.
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
        let digits = match self.median {
            0.0 => 0,
            small if small < 1.0 => 3,
            medium if medium < 100.0 => 2,
            _ => 0,
        };
        let space = if unit.is_empty() { "" } else { " " };
        self.with_digits(digits, &format!("{space}{unit}"))
    }

    /// Returns the text with enough digits to show a difference of a thousandth.
    fn ratio_text(&self) -> String {
        let digits = if self.median < 10.0 { 3 } else { 2 };
        self.with_digits(digits, "")
    }

    fn with_digits(&self, digits: usize, unit: &str) -> String {
        let Spread { min, median, max } = self;
        if median.is_nan() {
            return "–".to_owned();
        }
        format!("{median:.digits$}{unit} ({min:.digits$}–{max:.digits$})")
    }
}
