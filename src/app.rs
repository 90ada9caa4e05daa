//! The handles that every connection uses: settings, counters, admission and the two central threads.

use std::sync::Arc;
use std::time::Instant;

use crate::admission::Admission;
use crate::broadcaster::Broadcaster;
use crate::broker::Broker;
use crate::config::LiveConfig;
use crate::limits::Permits;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::socket::tls;

/// Handles without logic; holds no state of any single connection.
pub(crate) struct App {
    pub(crate) config: LiveConfig,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Admission,
    /// Queues publishes and reads history.
    pub(crate) broker: Broker,
    /// Joins members to rooms.
    pub(crate) broadcaster: Broadcaster,
    /// `None` if TCP connections speak plain HTTP.
    pub(crate) tls: Option<Arc<tls::TlsAcceptor>>,
    pub(crate) shutdown: Shutdown,
    /// The permits of the running sessions. Shutdown waits until all are returned.
    pub(crate) sessions: Permits,
    /// The permits of the requests without a response. A new connection counts as one, and so does a thread that waits
    /// for one: it may have got a connection that nobody else knows of.
    pub(crate) requests: Permits,
    /// When the server started.
    pub(crate) started: Instant,
}
