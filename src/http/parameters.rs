//! The names of the parameters of a query. A parameter that a request does not use is refused, because a client that
//! sends `ttl` believes in it. Names that no request has are ignored, because gateways and cache busters add them.

use super::wire::Query;
use crate::protocol::{ErrorCode, Refusal, quote};

/// A parameter that a kind of request does not use, and what to do instead.
type Unused = (&'static str, &'static str);

/// The parameters of a kind of request.
pub(crate) struct Parameters {
    /// Parameters that the request uses.
    pub(crate) used: &'static [&'static str],
    pub(crate) unused: &'static [Unused],
}

impl Parameters {
    /// Refuses a parameter that the request does not use, in any case, and one that it uses in another case.
    pub(crate) fn check_names(&self, query: &Query) -> Result<(), Refusal> {
        for name in query.names() {
            let is_meant = |known: &str| known.eq_ignore_ascii_case(name);
            if let Some((_, instead)) = self.unused.iter().find(|(known, _)| is_meant(known)) {
                let shown = quote(name);
                return refuse(format!("the parameter {shown} has no use here; {instead}"));
            }
            let meant = self.used.iter().find(|known| is_meant(known));
            if let Some(meant) = meant.filter(|meant| **meant != name) {
                let shown = quote(name);
                return refuse(format!("the parameter {shown} is unknown; write `{meant}`"));
            }
        }
        Ok(())
    }

    /// Checks the names, and that each parameter is present once.
    pub(crate) fn check(&self, query: &Query) -> Result<(), Refusal> {
        self.check_names(query)?;
        check_once(query, self.used)
    }
}

/// Refuses a parameter that is present more than once, because one of its values would be ignored. The refusal does not
/// show the values, which may be secrets.
pub(crate) fn check_once(query: &Query, names: &[&str]) -> Result<(), Refusal> {
    match names.iter().find(|name| query.values(name).count() > 1) {
        Some(name) => refuse(format!("`{name}` is present more than once")),
        None => Ok(()),
    }
}

fn refuse(message: String) -> Result<(), Refusal> {
    Err(Refusal::new(ErrorCode::InvalidField, message))
}
