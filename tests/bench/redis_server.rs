//! The Redis that nodes share: a real redis-server, on the servers' core, and what it says of itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use redis::Connection;

use crate::children::{Process, REDIS_BY_OTHER_NAME, START_DEADLINE, guarded};
use crate::cpu::CpuTime;
use crate::machine::Machine;

/// Under which names there may be one, as in the tests.
const PROGRAMS: [&str; 3] = ["redis-server", REDIS_BY_OTHER_NAME, "valkey-server"];

/// A port that was free may be taken before Redis takes it.
const PORTS_MAX: usize = 5;
const START_STEP: Duration = Duration::from_millis(10);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A running one, which keeps nothing on disk. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct RedisServer {
    port: u16,
    process: Process,
}

/// What it has done since it was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// All commands, those that scripts call among them.
    pub(crate) commands: f64,
    /// Scripts that nodes called: one a publish, and one a second and node beside them.
    pub(crate) scripts: f64,
    pub(crate) scripts_us: f64,
}

impl RedisServer {
    pub(crate) fn start(machine: &Machine) -> io::Result<RedisServer> {
        let program = program().ok_or_else(|| io::Error::other("no redis-server"))?;
        for _ in 0..PORTS_MAX {
            let port = free_port()?;
            let mut command = guarded(program)?;
            command
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--save", "", "--appendonly", "no"])
                .current_dir(Path::new(env!("CARGO_TARGET_TMPDIR")))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let process = Process::start(&mut command, machine)?;
            let mut redis = RedisServer { port, process };
            if redis.comes_up()? {
                return Ok(redis);
            }
        }
        Err(io::Error::other("redis-server does not start"))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cpu(&self) -> io::Result<CpuTime> {
        self.process.cpu()
    }

    pub(crate) fn check_alive(&mut self) -> io::Result<()> {
        self.process.check_alive("redis-server")
    }

    pub(crate) fn told(&self) -> io::Result<Told> {
        let text = self.info().map_err(io::Error::other)?;
        Told::read(&text).ok_or_else(|| io::Error::other(format!("INFO answered {text:?}")))
    }

    /// Whether it answers; `false` once it has ended.
    fn comes_up(&mut self) -> io::Result<bool> {
        let ours = format!("process_id:{}", self.process.id());
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            // Whoever else has taken the port may answer as well.
            let text = self.info().unwrap_or_default();
            if text.lines().any(|line| line == ours) {
                return Ok(true);
            }
            if self.check_alive().is_err() {
                return Ok(false);
            }
            thread::park_timeout(START_STEP);
        }
        Err(io::Error::other("redis-server does not answer"))
    }

    fn info(&self) -> redis::RedisResult<String> {
        redis::cmd("INFO").arg("all").query(&mut self.connect()?)
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let client = redis::Client::open(self.url())?;
        let connection = client.get_connection_with_timeout(ANSWER_DEADLINE)?;
        connection.set_read_timeout(Some(ANSWER_DEADLINE))?;
        Ok(connection)
    }
}

impl Told {
    /// Where there is no Redis.
    pub(crate) const NOTHING: Told = Told {
        commands: f64::NAN,
        scripts: f64::NAN,
        scripts_us: f64::NAN,
    };

    fn read(info: &str) -> Option<Told> {
        let field = |name: &str| {
            let mut lines = info.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        };
        let scripts = field("cmdstat_evalsha").unwrap_or("calls=0,usec=0");
        let of_scripts = |name: &str| {
            let mut parts = scripts.split(',');
            let number = parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))?;
            number.parse().ok()
        };
        Some(Told {
            commands: field("total_commands_processed")?.parse().ok()?,
            scripts: of_scripts("calls")?,
            scripts_us: of_scripts("usec")?,
        })
    }

    pub(crate) fn since(&self, earlier: &Told) -> Told {
        Told {
            commands: self.commands - earlier.commands,
            scripts: self.scripts - earlier.scripts,
            scripts_us: self.scripts_us - earlier.scripts_us,
        }
    }
}

/// The first name under which there is one.
pub(crate) fn program() -> Option<&'static str> {
    let answers = |name: &&str| {
        let mut command = Command::new(name);
        let version = command.arg0("redis-server").arg("--version").output();
        version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(" server v="))
    };
    PROGRAMS.into_iter().find(answers)
}

fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
