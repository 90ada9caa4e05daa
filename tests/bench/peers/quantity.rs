//! The quantities by which servers are compared.

/// A name, a unit and what is better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
    /// The figure describes the measurement.
    Neither,
}

/// A quantity and its value in one measurement.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) quantity: Quantity,
    pub(crate) value: f64,
}

pub(crate) fn lower(name: impl Into<String>, unit: &'static str, value: f64) -> Measured {
    measured(name, unit, Better::Lower, value)
}

pub(crate) fn higher(name: impl Into<String>, unit: &'static str, value: f64) -> Measured {
    measured(name, unit, Better::Higher, value)
}

pub(crate) fn described(name: impl Into<String>, unit: &'static str, value: f64) -> Measured {
    measured(name, unit, Better::Neither, value)
}

fn measured(name: impl Into<String>, unit: &'static str, better: Better, value: f64) -> Measured {
    Measured {
        quantity: Quantity {
            name: name.into(),
            unit,
            better,
        },
        value,
    }
}
