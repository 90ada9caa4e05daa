//! Measures two sides in turn, round by round, and makes a row of each figure.
//!
//! The sides are two setups of one server. With `--against` they are one setup of two servers.

use std::io;

use crate::measurements::Bench;
use crate::report::{Columns, Row, Target};

/// A name, a unit, and the function that reads the figure from a measurement.
pub(crate) type Definition<M> = (&'static str, &'static str, fn(&M) -> f64);

/// A figure of a measurement, with the label of its row.
#[derive(Debug)]
pub(crate) struct Figure<M> {
    label: String,
    unit: &'static str,
    value: fn(&M) -> f64,
    target: Option<Target>,
}

#[derive(Debug)]
pub(crate) struct Comparison<S, M> {
    /// The name of the comparison in progress messages.
    pub(crate) title: String,
    /// The names of the sides.
    pub(crate) columns: Columns,
    pub(crate) sides: [S; 2],
    pub(crate) figures: Vec<Figure<M>>,
}

impl<M> Figure<M> {
    pub(crate) fn new(label: String, unit: &'static str, value: fn(&M) -> f64) -> Figure<M> {
        Figure {
            label,
            unit,
            value,
            target: None,
        }
    }

    /// Labels the row with "title: name".
    pub(crate) fn titled(title: &str, (name, unit, value): Definition<M>) -> Figure<M> {
        Figure::new(format!("{title}: {name}"), unit, value)
    }

    pub(crate) fn all(title: &str, definitions: &[Definition<M>]) -> Vec<Figure<M>> {
        let figures = definitions.iter();
        figures
            .map(|figure| Figure::titled(title, *figure))
            .collect()
    }

    pub(crate) fn with_target(self, target: Target) -> Figure<M> {
        Figure {
            target: Some(target),
            ..self
        }
    }

    fn row(&self, columns: Columns, label_suffix: &str) -> Row {
        let label = format!("{}{label_suffix}", self.label);
        // Targets are for wscast beside its floor, or for one setup beside another.
        let target = self.target.filter(|_| columns != Columns::OldAndNew);
        Row::new(label, self.unit, columns, target)
    }
}

impl<S: Copy, M> Comparison<S, M> {
    /// Runs all rounds. With `--against`, compares the servers in each setup instead of the setups.
    pub(crate) fn rows(
        &self,
        bench: &Bench,
        measure: impl Fn(&Bench, S) -> io::Result<M>,
    ) -> io::Result<Vec<Row>> {
        if let Some(old_server) = &bench.options.against {
            let old_bench = bench.with_server(old_server.clone());
            return self.compare_servers([("old", &old_bench), ("new", bench)], measure);
        }
        let [base, measured] = self.columns.names();
        let pair = [(base, self.sides[0]), (measured, self.sides[1])]
            .map(|(name, setup)| Candidate { bench, setup, name });
        self.measure_pair(self.columns, pair, "", measure)
    }

    fn compare_servers(
        &self,
        servers: [(&'static str, &Bench); 2],
        measure: impl Fn(&Bench, S) -> io::Result<M>,
    ) -> io::Result<Vec<Row>> {
        let has_floor = self.columns == Columns::FloorAndWscast;
        let mut rows = Vec::new();
        for (side, setup) in self.columns.names().into_iter().zip(self.sides) {
            if has_floor && side == "floor" {
                continue;
            }
            let suffix = if has_floor {
                String::new()
            } else {
                format!(" ({side})")
            };
            let pair = servers.map(|(name, bench)| Candidate { bench, setup, name });
            rows.extend(self.measure_pair(Columns::OldAndNew, pair, &suffix, &measure)?);
        }
        // A figure of Redis has no value on a side without Redis.
        rows.retain(Row::has_value);
        Ok(rows)
    }

    /// Measures both candidates in each round. Every second round has the opposite order, so that neither
    /// profits from its turn.
    fn measure_pair(
        &self,
        columns: Columns,
        pair: [Candidate<'_, S>; 2],
        label_suffix: &str,
        measure: impl Fn(&Bench, S) -> io::Result<M>,
    ) -> io::Result<Vec<Row>> {
        let mut rows: Vec<Row> = self
            .figures
            .iter()
            .map(|figure| figure.row(columns, label_suffix))
            .collect();
        let rounds = pair[0].bench.options.rounds();
        for round in 1..=rounds {
            let measure = |candidate: &Candidate<'_, S>| {
                let (title, name) = (&self.title, candidate.name);
                eprintln!("{title}, round {round} of {rounds}: {name}");
                measure(candidate.bench, candidate.setup)
            };
            let (base, measured) = if round % 2 == 1 {
                let base = measure(&pair[0])?;
                (base, measure(&pair[1])?)
            } else {
                let measured = measure(&pair[1])?;
                (measure(&pair[0])?, measured)
            };
            for (row, figure) in rows.iter_mut().zip(&self.figures) {
                row.add_round((figure.value)(&base), (figure.value)(&measured));
            }
        }
        Ok(rows)
    }
}

/// A server and setup that a round measures.
struct Candidate<'a, S> {
    /// Names the server to start.
    bench: &'a Bench,
    setup: S,
    name: &'static str,
}
