//! Composition: binding starts every part in the order in which they depend on each other, running
//! ends in the reverse order.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_send_buffer_size;

use crate::app::App;
use crate::auth::Authority;
use crate::broadcaster::{Broadcaster, Event};
use crate::broker::{Broker, BrokerHandle, Memory};
use crate::config::{Config, SOCKET_SEND_BYTES};
use crate::limits::{self, Ceiling, Slots};
use crate::listener;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::threads;

/// How often the totals are noted for the rates.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Least time the store has at the end to finish what it was given.
const STORE_FLUSH_MIN: Duration = Duration::from_secs(1);

/// A server whose port is bound and whose threads are running; it accepts once it [runs](Self::run).
pub struct Server {
    listener: Arc<TcpListener>,
    address: SocketAddr,
    ceiling: Ceiling,
    slots: Slots,
    app: Arc<App>,
    broadcaster_thread: JoinHandle<()>,
    broker_thread: JoinHandle<()>,
}

/// Why a server cannot start; its `Display` is one line for the operator.
#[derive(Debug)]
pub enum StartError {
    /// The address cannot be listened on.
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A key cannot be used.
    Key(String),
    /// The history cannot be kept where it is to be.
    Store(String),
    /// A thread cannot be started.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{address} is in use; stop what runs there or choose another --port"
                )
            }
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Key(why) | Self::Store(why) => f.write_str(why),
            Self::Thread(source) => write!(f, "cannot start a thread: {source}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Server {
    /// Binds the port and starts broadcaster and broker.
    pub fn bind(config: Config, shutdown: Shutdown) -> Result<Self, StartError> {
        let address = SocketAddr::new(config.host, config.port);
        let bound = TcpListener::bind(address).and_then(|listener| {
            // Accepted sockets inherit it, which saves a system call for each.
            set_socket_send_buffer_size(&listener, SOCKET_SEND_BYTES)?;
            let address = listener.local_addr()?;
            Ok((Arc::new(listener), address))
        });
        let (listener, address) = bound.map_err(|source| StartError::Bind { address, source })?;

        let mut ceiling = limits::raise_and_measure();
        if let Some(connections) = config.limits.max_connections
            && connections <= ceiling.connections
        {
            ceiling = Ceiling {
                connections,
                set_by: "--max-connections",
            };
        }
        let authority = Authority::load(config.auth.clone());
        let authority = authority.map_err(|error| StartError::Key(error.to_string()))?;
        let metrics = Arc::new(Metrics::default());
        let (broadcaster, broadcaster_thread) =
            Broadcaster::start(config.welcome.clone(), Arc::clone(&metrics))
                .map_err(StartError::Thread)?;
        let engine = store(&config, &metrics)?;
        let (broker, broker_thread) =
            BrokerHandle::start(engine, broadcaster.clone(), Arc::clone(&metrics))
                .map_err(StartError::Thread)?;
        let app = Arc::new(App::new(
            config,
            metrics,
            broker,
            broadcaster,
            Arc::new(authority),
            shutdown,
        ));
        let slots = Slots::new(ceiling.connections);
        Ok(Self {
            listener,
            address,
            ceiling,
            slots,
            app,
            broadcaster_thread,
            broker_thread,
        })
    }

    /// The address that is listened on, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there may be, and why.
    pub fn ceiling(&self) -> Ceiling {
        self.ceiling
    }

    /// Serves until shutdown is requested, then closes everyone and returns; `Err` only if serving
    /// could not begin.
    pub fn run(self) -> Result<(), StartError> {
        let (listener, slots, app) = (
            Arc::clone(&self.listener),
            self.slots.clone(),
            Arc::clone(&self.app),
        );
        threads::spawn_service("listener", move || listener::run(&listener, &slots, &app))
            .map_err(StartError::Thread)?;
        while !self.app.shutdown.wait(SAMPLE_INTERVAL) {
            self.app.metrics.sample(Instant::now());
        }
        self.stop();
        Ok(())
    }

    fn stop(self) {
        let config = &self.app.config;
        let deadline = Instant::now() + config.shutdown_timeout;
        // On Linux this wakes a blocked accept; the port is free as soon as the socket is dropped.
        let _already = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Read);
        let clients = self.app.metrics.clients.get();
        log::info!("closing {clients} clients over {:?}", config.drain);
        self.app
            .broadcaster
            .send(Event::Drain { over: config.drain });
        let left = self.app.sessions.wait_until_empty(deadline);
        if left > 0 {
            log::warn!("{left} clients did not close in time");
        }
        self.app.broadcaster.send(Event::Stop);
        let _panicked = self.broadcaster_thread.join();
        // What was published is stored before the process ends, even past the deadline, but a store
        // that hangs is not waited for for ever.
        let store_deadline = deadline.max(Instant::now() + STORE_FLUSH_MIN);
        self.app.broker.stop(store_deadline);
        while !self.broker_thread.is_finished() && Instant::now() < store_deadline {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if !self.broker_thread.is_finished() {
            log::warn!("the store did not finish in time");
        }
        log::info!("stopped");
    }
}

/// Where the history is kept.
fn store(config: &Config, metrics: &Arc<Metrics>) -> Result<Arc<dyn Broker>, StartError> {
    let (limits, rooms_max) = (config.history.clone(), config.limits.max_rooms);
    let metrics = Arc::clone(metrics);
    let Some(database) = &config.database else {
        return Ok(Arc::new(Memory::new(limits, rooms_max, metrics)));
    };
    #[cfg(feature = "sqlite")]
    {
        let sqlite = crate::broker::Sqlite::open(database, limits, rooms_max, metrics);
        let sqlite = sqlite.map_err(|error| StartError::Store(error.to_string()))?;
        Ok(Arc::new(sqlite))
    }
    #[cfg(not(feature = "sqlite"))]
    {
        let path = &database.path;
        Err(StartError::Store(format!(
            "--db {path:?}: this wscast was built without SQLite; build it with --features sqlite"
        )))
    }
}
