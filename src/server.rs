//! Composition of the server: starts the parts in the order of their dependencies and stops them in reverse.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::admission::Admission;
use crate::app::App;
use crate::auth::Authority;
use crate::auth_hook::AuthHook;
use crate::broadcaster::{self, Broadcaster, Event};
use crate::broker::Broker;
use crate::config::{Config, LiveConfig, TlsFiles};
use crate::jwks;
use crate::limits::{self, Ceiling, Permits};
use crate::listener::{self, BindError, Bound, Endpoint, InheritedSocket};
use crate::metrics::Metrics;
use crate::os_error;
use crate::reload::Reloads;
use crate::shutdown::Shutdown;
use crate::socket::tls;
use crate::store::{self, Delivery};
use crate::systemd::{self, ServiceManager};
use crate::threads::{self, REPLY_TIMEOUT};
use crate::webhooks::{PreparedWebhooks, Webhooks};

/// How often the metrics take a sample for the rates.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Least time that the store has at shutdown to store the queued messages.
const STORE_FLUSH_MIN: Duration = Duration::from_secs(1);
/// How long shutdown waits for responses to requests that have arrived. A connection without a request counts too.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// A server with bound sockets and running threads. It accepts connections once it [runs](Self::run).
pub struct Server {
    endpoints: Vec<Arc<Endpoint>>,
    /// The addresses of the port, IPv4 first; empty if all sockets are Unix sockets.
    addresses: Vec<SocketAddr>,
    /// The connections that the machine allows.
    machine: Ceiling,
    /// The connections that the machine and the settings allow at the start.
    ceiling: Ceiling,
    app: Arc<App>,
    broadcaster_thread: JoinHandle<()>,
    broker_thread: JoinHandle<()>,
    webhooks: Option<Webhooks>,
}

/// The reason why a server cannot start. Its text is one line for the operator.
#[derive(Debug)]
pub enum StartError {
    /// The port cannot be bound.
    Bind {
        /// The address and port.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The sockets of the service manager cannot be used.
    Inherit(String),
    /// A key for tokens cannot be used.
    Key(String),
    /// The Unix socket cannot be bound.
    Listen {
        /// The path of the socket.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The store cannot be opened.
    Store(String),
    /// The certificate cannot be used.
    Tls(String),
    /// A hook cannot be used.
    Hook(String),
    /// A thread cannot be started.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{address} is in use; stop the program that uses it or choose another --port"
                )
            }
            Self::Bind { address, source } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                let ip = address.ip().to_string();
                write!(
                    f,
                    "--host {ip:?}: {source}; this machine does not have the address, so write one that it has, \
                     or leave --host out"
                )
            }
            Self::Bind { address, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                let port = address.port().to_string();
                write!(
                    f,
                    "--port {port:?}: {source}; only root may use ports below 1024, so choose another, or grant \
                     CAP_NET_BIND_SERVICE"
                )
            }
            Self::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            Self::Listen { path, source } => {
                write!(f, "--listen {path:?}: {}", os_error::explain(path, source))
            }
            Self::Inherit(why) => write!(f, "--listen \"systemd\": {why}"),
            Self::Key(why) | Self::Store(why) | Self::Tls(why) | Self::Hook(why) => {
                f.write_str(why)
            }
            Self::Thread(source) => write!(f, "cannot start a thread: {source}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Checks the addresses in the settings, for `--check-config`. Reads no file and connects to no server.
pub fn check(config: &Config) -> Result<(), StartError> {
    if let Some(settings) = &config.auth_hook {
        AuthHook::load(settings, Arc::default()).map_err(StartError::Hook)?;
    }
    store::check(config).map_err(|error| StartError::Store(error.to_string()))
}

impl Server {
    /// Binds the sockets, opens the store and starts broadcaster and broker. Adds the files that can be reloaded to
    /// `reloads`.
    pub fn bind(config: Config, shutdown: Shutdown, reloads: &Reloads) -> Result<Self, StartError> {
        let tls = match &config.tls {
            Some(files) => Some(load_tls(files, reloads)?),
            None => None,
        };
        let (endpoints, addresses) = listen(&config)?;
        let machine = limits::raise_and_measure();
        let ceiling = ceiling(machine, &config);
        let authority = load_keys(&config, &addresses, reloads)?;
        let metrics = Arc::new(Metrics::default());
        jwks::start(&config.auth, &authority, &metrics).map_err(StartError::Key)?;
        let helpers = config.fan_out_threads;
        let helpers = helpers.unwrap_or_else(broadcaster::auto_helpers);
        let webhooks = config.webhook.as_ref();
        let webhooks = webhooks.map(|settings| PreparedWebhooks::load(settings, reloads));
        let webhooks = webhooks.transpose().map_err(StartError::Hook)?;
        let auth_hook = config.auth_hook.as_ref();
        let auth_hook = auth_hook.map(|settings| AuthHook::load(settings, Arc::clone(&metrics)));
        let auth_hook = auth_hook.transpose().map_err(StartError::Hook)?;
        let config = LiveConfig::new(config);
        let live = config.clone();
        let (broadcaster, broadcaster_thread) = Broadcaster::start(
            config.get().welcome.clone(),
            Box::new(move |room| live.shows_presence(room)),
            Arc::clone(&metrics),
            helpers,
            webhooks.as_ref().map(PreparedWebhooks::changes),
        )
        .map_err(StartError::Thread)?;
        let delivery: Arc<dyn Delivery> = Arc::new(broadcaster.clone());
        let store = store::open(&config, &delivery, authority.revocations(), &metrics)
            .map_err(|error| StartError::Store(error.to_string()))?;
        let webhooks = webhooks.map(|prepared| {
            let store = Arc::clone(&store);
            Webhooks::start(prepared, broadcaster.clone(), store, Arc::clone(&metrics))
        });
        let webhooks = webhooks.transpose().map_err(StartError::Thread)?;
        let (broker, broker_thread) =
            Broker::start(store, delivery, Arc::clone(&metrics)).map_err(StartError::Thread)?;
        let admission = Admission::new(
            &config,
            ceiling.connections,
            authority,
            auth_hook,
            broker.clone(),
            Arc::clone(&metrics),
        );
        let app = Arc::new(App {
            config,
            metrics,
            admission,
            broker,
            broadcaster,
            tls,
            shutdown,
            sessions: Permits::new(usize::MAX),
            requests: Permits::new(usize::MAX),
            started: Instant::now(),
        });
        Ok(Self {
            endpoints,
            addresses,
            machine,
            ceiling,
            app,
            broadcaster_thread,
            broker_thread,
            webhooks,
        })
    }

    /// Returns a function that takes over the [reloaded](crate::config::is_reloaded) settings of a new configuration.
    pub fn reload(&self) -> impl Fn(Config) + Send + use<> {
        let (app, machine) = (Arc::clone(&self.app), self.machine);
        move |config| {
            log::set_max_level(config.log_level);
            let connections_max = ceiling(machine, &config).connections;
            app.config.reload(config);
            app.admission.reload(connections_max);
        }
    }

    /// Returns the first bound address, with the real port. `None` if all sockets are Unix sockets.
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.first().copied()
    }

    /// Serves until shutdown is requested, closes all clients and returns. `Err` means that a thread could not be
    /// started.
    pub fn run(self) -> Result<(), StartError> {
        let Ceiling {
            connections,
            set_by,
        } = self.ceiling;
        log::info!("listening on {}", self.reachable_at());
        log::info!("up to {connections} connections, set by {set_by}");
        listener::log_accept_queue();
        for endpoint in &self.endpoints {
            let (endpoint, app) = (Arc::clone(endpoint), Arc::clone(&self.app));
            listener::start(endpoint, app).map_err(StartError::Thread)?;
        }
        let manager = ServiceManager::from_environment().map(Arc::new);
        if let Some(manager) = &manager {
            manager.ready();
            start_watchdog(manager, &self.app).map_err(StartError::Thread)?;
        }
        while !self.app.shutdown.wait(SAMPLE_INTERVAL) {
            self.app.metrics.sample(Instant::now());
        }
        if let Some(manager) = &manager {
            manager.stopping();
        }
        self.announce_shutdown();
        self.stop();
        Ok(())
    }

    /// Returns the addresses of the port and the paths of inherited Unix sockets, for the log.
    fn reachable_at(&self) -> String {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let inherited = self
            .endpoints
            .iter()
            .filter_map(|endpoint| match &**endpoint {
                Endpoint::Inherited(socket) => socket.path(),
                _ => None,
            });
        let texts: Vec<_> = addresses.chain(inherited).collect();
        texts.join(" and ")
    }

    /// Keeps serving for the drain delay while `/health` returns 503, so that a balancer sends new clients to other
    /// servers before the port closes.
    fn announce_shutdown(&self) {
        let delay = self.app.config.get().drain_delay;
        if !delay.is_zero() {
            log::info!(
                "draining: /health returns 503 and clients are still accepted for {delay:?}"
            );
        }
        let end = Instant::now() + delay;
        while let left = end.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            self.app
                .shutdown
                .wait_until_closing(left.min(SAMPLE_INTERVAL));
            self.app.metrics.sample(Instant::now());
        }
        self.app.shutdown.close();
    }

    fn stop(self) {
        let config = self.app.config.get();
        let deadline = Instant::now() + config.shutdown_timeout;
        for endpoint in &self.endpoints {
            endpoint.close();
        }
        if let Some(webhooks) = &self.webhooks {
            webhooks.stop();
        }
        let clients = self.app.metrics.clients.get();
        log::info!("closing {clients} clients over {:?}", config.drain);
        self.app.broadcaster.send(Event::Drain {
            duration: config.drain,
        });
        let left = self.app.sessions.wait_until_empty(deadline);
        if left > 0 {
            log::warn!("{left} clients did not close in time");
        }
        // A balancer would report a request that is cut off as an error of the server.
        let answered = deadline.min(Instant::now() + RESPONSE_TIMEOUT);
        self.app.requests.wait_until_empty(answered);
        // Handshakes among them have become sessions, which the broadcaster closes.
        self.app.sessions.wait_until_empty(answered);
        self.app.broadcaster.send(Event::Stop);
        // A panic of the broadcaster has ended the process already.
        self.broadcaster_thread.join().ok();
        // Published messages are stored before the process ends, even past the deadline. A store that hangs
        // delays the exit until its own deadline.
        let store_deadline = deadline.max(Instant::now() + STORE_FLUSH_MIN);
        self.app.broker.stop(store_deadline);
        while !self.broker_thread.is_finished() && Instant::now() < store_deadline {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if let Some(webhooks) = &self.webhooks {
            webhooks.wait_until_stopped(answered);
        }
        if !self.broker_thread.is_finished() {
            log::warn!("the store did not finish in time");
        }
        log::info!("stopped");
    }
}

/// Returns the connections that the machine and the settings allow.
fn ceiling(machine: Ceiling, config: &Config) -> Ceiling {
    match config.limits.max_connections {
        Some(connections) if connections <= machine.connections => Ceiling {
            connections,
            set_by: "--max-connections",
        },
        _ => machine,
    }
}

/// Starts the thread that reports to the service manager that the server works, if the manager wants that. A store
/// that fails is no reason: a restart would disconnect all clients and would not help.
fn start_watchdog(manager: &Arc<ServiceManager>, app: &Arc<App>) -> io::Result<()> {
    let Some(interval) = systemd::watchdog_interval() else {
        return Ok(());
    };
    let (manager, app) = (Arc::clone(manager), Arc::clone(app));
    threads::spawn_service("watchdog", move || {
        while !app.shutdown.wait(interval) {
            if app
                .broadcaster
                .is_responsive(Instant::now() + REPLY_TIMEOUT)
            {
                manager.alive();
            }
        }
    })
    .map(drop)
}

/// Takes the sockets of the service manager or binds the port, then binds the Unix sockets. Returns them with the port's
/// addresses.
fn listen(config: &Config) -> Result<(Vec<Arc<Endpoint>>, Vec<SocketAddr>), StartError> {
    let Bound {
        endpoints,
        addresses,
    } = if config.inherit_sockets {
        inherit().map_err(StartError::Inherit)?
    } else {
        let passed = systemd::passed_sockets_count();
        if passed > 0 {
            log::warn!("systemd has passed {passed} sockets; --listen systemd uses them");
        }
        let bound = listener::bind_port(&config.host, config.port);
        bound.map_err(|BindError { address, source }| StartError::Bind { address, source })?
    };
    let mut endpoints: Vec<_> = endpoints.into_iter().map(Arc::new).collect();
    for path in &config.listen {
        let bound = Endpoint::unix(path, config.listen_mode);
        endpoints.push(Arc::new(bound.map_err(|source| StartError::Listen {
            path: path.clone(),
            source,
        })?));
    }
    Ok((endpoints, addresses))
}

fn inherit() -> Result<Bound, String> {
    let sockets = systemd::take_passed_sockets()?.into_iter();
    let sockets = sockets.map(|socket| InheritedSocket::new(socket).map_err(|why| why.to_string()));
    let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
    let mut addresses: Vec<_> = sockets
        .iter()
        .filter_map(InheritedSocket::address)
        .collect();
    addresses.sort();
    Ok(Bound {
        endpoints: sockets.into_iter().map(Endpoint::Inherited).collect(),
        addresses,
    })
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}

/// Reads the keys for tokens. Warns if there are none and other machines can connect.
fn load_keys(
    config: &Config,
    addresses: &[SocketAddr],
    reloads: &Reloads,
) -> Result<Arc<Authority>, StartError> {
    let authority = Authority::load(config.auth.clone());
    let authority = authority.map_err(|error| StartError::Key(error.to_string()))?;
    let is_open = !authority.has_keys() && !config.auth.asks_backend;
    if is_open && !addresses.iter().all(|address| address.ip().is_loopback()) {
        let addresses = list(addresses);
        log::warn!(
            "no key is set: every client that can reach {addresses} may read and publish in every room"
        );
    }
    let authority = Arc::new(authority);
    if config.auth.has_key_files() {
        let reloaded = Arc::clone(&authority);
        reloads.add(move || match reloaded.reload() {
            Ok(()) => Ok("keys for tokens".to_owned()),
            Err(why) => Err(why.to_string()),
        });
    }
    Ok(authority)
}

fn load_tls(files: &TlsFiles, reloads: &Reloads) -> Result<Arc<tls::TlsAcceptor>, StartError> {
    let acceptor = tls::TlsAcceptor::load(files).map_err(StartError::Tls)?;
    let acceptor = Arc::new(acceptor);
    let reloaded = Arc::clone(&acceptor);
    reloads.add(move || reloaded.reload());
    Ok(acceptor)
}
