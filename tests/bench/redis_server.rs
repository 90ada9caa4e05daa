//! The Redis that nodes share: a real redis-server on the servers' core, and its counters.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, FromRedisValue};

use crate::cpu::CpuTime;
use crate::machine::Machine;
use crate::servers::{Process, REDIS_CHECK_RDB, START_DEADLINE, guarded};

/// The names of programs that are a Redis server.
const PROGRAMS: [&str; 3] = ["redis-server", REDIS_CHECK_RDB, "valkey-server"];

/// Ports to try, because another process may take a free port before Redis does.
const PORTS_MAX: usize = 5;
const START_STEP: Duration = Duration::from_millis(10);
const REPLY_DEADLINE: Duration = Duration::from_secs(5);

/// A running Redis that keeps nothing on disk. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct RedisServer {
    port: u16,
    process: Process,
}

/// Counters since the server was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedisCounters {
    /// All commands, including those that scripts call.
    pub(crate) commands: f64,
    /// Scripts that nodes called: one for the publishes that wait, and one per second and node.
    pub(crate) scripts: f64,
    pub(crate) scripts_us: f64,
}

impl RedisServer {
    pub(crate) fn start(machine: &Machine) -> io::Result<RedisServer> {
        RedisServer::start_with(&[], machine)
    }

    /// Starts a server with more arguments.
    pub(crate) fn start_with(arguments: &[&str], machine: &Machine) -> io::Result<RedisServer> {
        let program = find_program().ok_or_else(|| io::Error::other("no redis-server"))?;
        for _ in 0..PORTS_MAX {
            let port = free_port()?;
            let mut command = guarded(program)?;
            // The file in which a server of a cluster keeps what it knows of it. An old one would be read.
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let cluster_file = format!("redis-cluster-{port}.conf");
            fs::remove_file(folder.join(&cluster_file)).ok();
            command
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no"])
                .args(["--cluster-config-file", &cluster_file])
                .args(arguments)
                .current_dir(folder)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let process = Process::start(&mut command, machine)?;
            let mut redis = RedisServer { port, process };
            if redis.has_started()? {
                return Ok(redis);
            }
        }
        Err(io::Error::other("redis-server did not start"))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs a command.
    pub(crate) fn run<T: FromRedisValue>(&self, arguments: &[&str]) -> io::Result<T> {
        let run = || {
            let mut command = redis::cmd(arguments[0]);
            command.arg(&arguments[1..]).query(&mut self.connect()?)
        };
        run().map_err(io::Error::other)
    }

    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        self.process.cpu()
    }

    pub(crate) fn check_alive(&mut self) -> io::Result<()> {
        self.process.check_alive("redis-server")
    }

    pub(crate) fn counters(&self) -> io::Result<RedisCounters> {
        let text = self.info().map_err(io::Error::other)?;
        RedisCounters::parse(&text)
            .ok_or_else(|| io::Error::other(format!("unexpected reply to INFO: {text:?}")))
    }

    /// Waits until the server replies. Returns false if it has exited.
    fn has_started(&mut self) -> io::Result<bool> {
        let own_process = format!("process_id:{}", self.process.id());
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            // Another server may have taken the port and reply instead.
            let text = self.info().unwrap_or_default();
            if text.lines().any(|line| line == own_process) {
                return Ok(true);
            }
            if self.check_alive().is_err() {
                return Ok(false);
            }
            thread::park_timeout(START_STEP);
        }
        Err(io::Error::other("redis-server does not reply"))
    }

    fn info(&self) -> redis::RedisResult<String> {
        redis::cmd("INFO").arg("all").query(&mut self.connect()?)
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let client = redis::Client::open(self.url())?;
        let connection = client.get_connection_with_timeout(REPLY_DEADLINE)?;
        connection.set_read_timeout(Some(REPLY_DEADLINE))?;
        Ok(connection)
    }
}

impl RedisCounters {
    /// The counters of a setup without Redis.
    pub(crate) const NONE: RedisCounters = RedisCounters {
        commands: f64::NAN,
        scripts: f64::NAN,
        scripts_us: f64::NAN,
    };

    fn parse(info: &str) -> Option<RedisCounters> {
        let field = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let scripts = field("cmdstat_evalsha").unwrap_or("calls=0,usec=0");
        let script_number = |name: &str| {
            let mut parts = scripts.split(',');
            let number = parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
            number.parse().ok()
        };
        Some(RedisCounters {
            commands: field("total_commands_processed")?.parse().ok()?,
            scripts: script_number("calls")?,
            scripts_us: script_number("usec")?,
        })
    }

    /// Adds the counters of another server.
    pub(crate) fn plus(&self, other: &RedisCounters) -> RedisCounters {
        RedisCounters {
            commands: self.commands + other.commands,
            scripts: self.scripts + other.scripts,
            scripts_us: self.scripts_us + other.scripts_us,
        }
    }

    pub(crate) fn since(&self, earlier: &RedisCounters) -> RedisCounters {
        RedisCounters {
            commands: self.commands - earlier.commands,
            scripts: self.scripts - earlier.scripts,
            scripts_us: self.scripts_us - earlier.scripts_us,
        }
    }
}

/// Returns the first of the program names that is installed.
pub(crate) fn find_program() -> Option<&'static str> {
    let is_server = |name: &&str| {
        let mut command = Command::new(name);
        let version = command.arg0("redis-server").arg("--version").output();
        version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(" server v="))
    };
    PROGRAMS.into_iter().find(is_server)
}

fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
