//! The figures of all rounds, and the ratios between servers.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::peers::peer::{FLOOR, WSCAST, names};
use crate::peers::quantity::{Better, Quantity};

/// All scenarios of a file, by name, each with the machine that measured it.
#[derive(Debug, Default)]
pub(crate) struct Results {
    scenarios: Map<String, Value>,
}

/// A quantity of one scenario: the figures of each server, round by round. A round that failed has NaN.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) quantity: Quantity,
    pub(crate) rounds: BTreeMap<String, Vec<f64>>,
}

impl Series {
    pub(crate) fn new(quantity: Quantity) -> Series {
        Series {
            quantity,
            rounds: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, peer: &str, round: usize, value: f64) {
        let rounds = self.rounds.entry(peer.to_owned()).or_default();
        rounds.resize(round, f64::NAN);
        rounds.push(value);
    }

    pub(crate) fn median(&self, peer: &str) -> f64 {
        median(self.rounds.get(peer).map_or(&[], Vec::as_slice))
    }

    /// Returns the least and the greatest figure.
    pub(crate) fn range(&self, peer: &str) -> (f64, f64) {
        let rounds = self.rounds.get(peer).into_iter().flatten();
        rounds.fold((f64::NAN, f64::NAN), |(min, max), value| {
            (min.min(*value), max.max(*value))
        })
    }

    /// Returns the median over the rounds of the figure divided by the floor's.
    pub(crate) fn to_floor(&self, peer: &str) -> f64 {
        self.ratio(peer, |round| self.at(FLOOR, round))
    }

    /// Returns the median over the rounds of the figure divided by that of the best server of the round. The floor
    /// and wscast are not among the servers.
    pub(crate) fn to_best(&self, peer: &str) -> f64 {
        self.ratio(peer, |round| {
            let others = names().filter(|name| ![FLOOR, WSCAST].contains(name));
            let figures = others.map(|name| self.at(name, round));
            figures.fold(f64::NAN, |best, figure| match self.quantity.better {
                Better::Higher => best.max(figure),
                Better::Lower | Better::Neither => best.min(figure),
            })
        })
    }

    fn ratio(&self, peer: &str, base: impl Fn(usize) -> f64) -> f64 {
        if self.quantity.better == Better::Neither {
            return f64::NAN;
        }
        let rounds = self.rounds.get(peer).map_or(0, Vec::len);
        let ratios = (0..rounds).map(|round| self.at(peer, round) / base(round));
        median(&ratios.collect::<Vec<_>>())
    }

    fn at(&self, peer: &str, round: usize) -> f64 {
        let figures = self.rounds.get(peer);
        let figure = figures.and_then(|figures| figures.get(round));
        figure.copied().unwrap_or(f64::NAN)
    }

    fn json(&self) -> Value {
        let servers = self.rounds.iter().map(|(peer, rounds)| {
            let figures = json!({
                "rounds": rounds,
                "median": self.median(peer),
                "to_floor": self.to_floor(peer),
                "to_best": self.to_best(peer),
            });
            (peer.clone(), figures)
        });
        json!({
            "name": self.quantity.name,
            "unit": self.quantity.unit,
            "better": self.quantity.better.text(),
            "servers": servers.collect::<Map<_, _>>(),
        })
    }
}

impl Better {
    fn text(self) -> Option<&'static str> {
        match self {
            Better::Lower => Some("lower"),
            Better::Higher => Some("higher"),
            Better::Neither => None,
        }
    }
}

impl Results {
    /// Reads an earlier file. A file that is missing or unreadable gives no results.
    pub(crate) fn read(path: &Path) -> Results {
        let text = fs::read_to_string(path).unwrap_or_default();
        let file = serde_json::from_str::<Map<String, Value>>(&text);
        Results {
            scenarios: file.unwrap_or_default(),
        }
    }

    /// Adds a scenario, or replaces its earlier results.
    pub(crate) fn set(&mut self, name: &str, about: Value, series: &[Series]) {
        let mut scenario = about;
        scenario["figures"] = series.iter().map(Series::json).collect();
        self.scenarios.insert(name.to_owned(), scenario);
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = serde_json::to_string_pretty(&self.scenarios)?;
        fs::write(path, format!("{text}\n"))
    }
}

/// Returns the median of the figures that are not NaN.
fn median(figures: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = figures.iter().copied().filter(|f| !f.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted[..] {
        [] => f64::NAN,
        _ if sorted.len() % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}
