//! A connection to Redis for commands: every wait has an end, and one that broke is made anew, later each
//! time it cannot be.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::cluster::{ClusterClient, ClusterConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, Connection, ConnectionLike, Pipeline, RedisError, ServerErrorKind, Value,
};

use super::scripts;

/// Time for a connection to be made, and for all answers to what was sent on one.
pub(super) const REDIS_TIMEOUT: Duration = Duration::from_secs(2);
/// First and longest wait until a connection that could not be made is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// Where Redis is.
#[derive(Clone)]
pub(super) enum Target {
    /// One server, or a proxy that looks like one.
    Server(Client),
    /// A Redis Cluster, by some of its servers.
    Cluster(ClusterClient, Vec<Client>),
}

impl Target {
    /// From one address, or from several of a cluster with commas between them.
    pub(super) fn parse(url: &str) -> Result<Self, RedisError> {
        let addresses: Vec<&str> = url.split(',').map(str::trim).collect();
        let clients: Result<Vec<_>, _> = addresses.iter().map(|one| Client::open(*one)).collect();
        let mut clients = clients?;
        if let (1, Some(only)) = (clients.len(), clients.pop()) {
            return Ok(Self::Server(only));
        }
        let cluster = ClusterClient::builder(addresses.clone())
            .connection_timeout(REDIS_TIMEOUT)
            .response_timeout(REDIS_TIMEOUT)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            // What was sent once is not sent again: it could be published twice.
            .retries(0)
            .build()?;
        let clients: Result<Vec<_>, _> = addresses.into_iter().map(Client::open).collect();
        Ok(Self::Cluster(cluster, clients?))
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(..))
    }

    /// Servers of which any can be listened to.
    pub(super) fn servers(&self) -> &[Client] {
        match self {
            Self::Server(client) => std::slice::from_ref(client),
            Self::Cluster(_, clients) => clients,
        }
    }
}

/// The address without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.servers().iter().map(|client| {
            let address = client.get_connection_info().addr();
            address.to_string()
        });
        f.write_str(&addresses.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// Why commands were not answered.
#[derive(Debug)]
pub(super) enum LinkError {
    /// They did not reach Redis.
    NotSent(String),
    /// They may have.
    Unanswered(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Unanswered(why) => f.write_str(why),
        }
    }
}

enum Wire {
    Server(Connection),
    Cluster(Box<ClusterConnection>),
}

/// What is to be done with every new connection before it is used.
pub(super) type Greeting = Arc<dyn Fn(&mut Talk<'_>) -> Result<(), LinkError> + Send + Sync>;

/// Commands and their answers, on a connection that stands.
pub(super) struct Talk<'a>(&'a mut Wire);

/// A connection that is made when it is needed.
pub(super) struct Link {
    target: Target,
    greeting: Greeting,
    wire: Option<Wire>,
    retry: Backoff,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.target)
    }
}

impl Link {
    pub(super) fn new(target: Target, greeting: Greeting) -> Self {
        Self {
            target,
            greeting,
            wire: None,
            retry: Backoff::default(),
        }
    }

    /// Makes the connection if there is none, so that what is learnt with it is known before commands are
    /// made up.
    pub(super) fn ready(&mut self) -> Result<(), LinkError> {
        self.connect().map(drop)
    }

    /// Sends commands and gives their answers, in order; what Redis itself refuses is among these.
    pub(super) fn run(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, LinkError> {
        let wire = self.connect()?;
        let answers = Talk(wire).run_scripts(commands);
        match &answers {
            Err(_) => self.wire = None,
            Ok(answers) if answers.iter().any(is_wrong_server) => {
                self.wire = None;
                let why = "this server is not, or no longer, the one that is written to";
                self.retry.failed(why.to_owned(), Instant::now());
            }
            Ok(_) => {}
        }
        answers
    }

    /// The same for one command, whose refusal is an error.
    pub(super) fn run_one(&mut self, command: Cmd) -> Result<Value, LinkError> {
        let mut answers = self.run(&[command])?;
        let none = || LinkError::Unanswered("no answer".to_owned());
        accepted(answers.pop().ok_or_else(none)?)
    }

    /// Makes the connection if there is none and it is time to try.
    fn connect(&mut self) -> Result<&mut Wire, LinkError> {
        if self.wire.is_none() {
            if let Some(why) = self.retry.waits(Instant::now()) {
                return Err(LinkError::NotSent(why.to_owned()));
            }
            let made = connect(&self.target).and_then(|mut wire| {
                (self.greeting)(&mut Talk(&mut wire))?;
                Ok(wire)
            });
            match made {
                Ok(wire) => {
                    self.retry.succeeded();
                    self.wire = Some(wire);
                }
                Err(why) => {
                    let why = why.to_string();
                    self.retry.failed(why.clone(), Instant::now());
                    return Err(LinkError::NotSent(why));
                }
            }
        }
        self.wire
            .as_mut()
            .ok_or_else(|| LinkError::NotSent("not connected".to_owned()))
    }
}

fn connect(target: &Target) -> Result<Wire, LinkError> {
    let failed = |why: RedisError| LinkError::NotSent(why.to_string());
    match target {
        Target::Server(client) => connect_to(client).map(Wire::Server).map_err(failed),
        Target::Cluster(client, _) => {
            let cluster = client.get_connection().map_err(failed)?;
            Ok(Wire::Cluster(Box::new(cluster)))
        }
    }
}

/// A connection to one server, whose reads and writes have an end.
pub(super) fn connect_to(client: &Client) -> Result<Connection, RedisError> {
    // Small commands must not wait for each other (RFC 896).
    let info = client.get_connection_info().clone();
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client = Client::open(info.set_tcp_settings(tcp))?;
    let connection = client.get_connection_with_timeout(REDIS_TIMEOUT)?;
    connection.set_read_timeout(Some(REDIS_TIMEOUT))?;
    connection.set_write_timeout(Some(REDIS_TIMEOUT))?;
    Ok(connection)
}

impl Talk<'_> {
    /// A server that was started anew does not know the scripts: it has done nothing of what they were
    /// called for, and is asked again once it knows them.
    fn run_scripts(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, LinkError> {
        let mut answers = self.run(commands)?;
        let is_unknown = |answer: &Value| matches!(answer, Value::ServerError(why) if why.kind() == Some(ServerErrorKind::NoScript));
        let unknown: Vec<usize> = (0..answers.len())
            .filter(|n| is_unknown(&answers[*n]))
            .collect();
        if unknown.is_empty() {
            return Ok(answers);
        }
        self.run(&scripts::load_all())?;
        let again: Vec<Cmd> = unknown.iter().map(|n| commands[*n].clone()).collect();
        for (n, answer) in unknown.into_iter().zip(self.run(&again)?) {
            answers[n] = answer;
        }
        Ok(answers)
    }

    /// Sends commands and gives their answers, in order.
    pub(super) fn run(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, LinkError> {
        match self.0 {
            Wire::Server(connection) => run_on_server(connection, commands),
            Wire::Cluster(cluster) => run_on_cluster(cluster, commands),
        }
    }
}

/// An answer that is no refusal.
pub(super) fn accepted(answer: Value) -> Result<Value, LinkError> {
    match answer {
        Value::ServerError(why) => Err(LinkError::NotSent(told(&why))),
        value => Ok(value),
    }
}

/// A refusal in the words of Redis: a code and a sentence.
pub(super) fn told(refusal: &redis::ServerError) -> String {
    let (code, sentence) = (refusal.code(), refusal.details().unwrap_or_default());
    format!("{code} {sentence}")
}

/// All are sent before the first answer is read.
fn run_on_server(connection: &mut Connection, commands: &[Cmd]) -> Result<Vec<Value>, LinkError> {
    let unanswered = |why: RedisError| LinkError::Unanswered(why.to_string());
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command.clone());
    }
    let deadline = Instant::now() + REDIS_TIMEOUT;
    connection
        .send_packed_command(&pipeline.get_packed_pipeline())
        .map_err(unanswered)?;
    let mut answers = Vec::with_capacity(commands.len());
    while answers.len() < commands.len() {
        answers.push(connection.recv_response().map_err(unanswered)?);
        // Each answer has a time-out of its own; this is that of all together.
        if Instant::now() > deadline && answers.len() < commands.len() {
            return Err(LinkError::Unanswered("too slow".to_owned()));
        }
    }
    Ok(answers)
}

/// One after the other, each where its keys are.
fn run_on_cluster(
    cluster: &mut ClusterConnection,
    commands: &[Cmd],
) -> Result<Vec<Value>, LinkError> {
    let deadline = Instant::now() + REDIS_TIMEOUT;
    let mut answers = Vec::with_capacity(commands.len());
    for command in commands {
        match cluster.req_command(command) {
            Ok(answer) => answers.push(answer),
            Err(why) => answers.push(refusal(why)?),
        }
        if Instant::now() > deadline && answers.len() < commands.len() {
            return Err(LinkError::Unanswered("too slow".to_owned()));
        }
    }
    Ok(answers)
}

/// What a server refuses is an answer too.
fn refusal(why: RedisError) -> Result<Value, LinkError> {
    let unanswered = LinkError::Unanswered(why.to_string());
    redis::ServerError::try_from(why)
        .map(Value::ServerError)
        .map_err(|_| unanswered)
}

/// Whether another server than this one must be asked: it is only a replica now, or the key has moved.
fn is_wrong_server(answer: &Value) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, MasterDown, Moved, ReadOnly};
    let Value::ServerError(why) = answer else {
        return false;
    };
    matches!(
        why.kind(),
        Some(Ask | ClusterDown | MasterDown | Moved | ReadOnly)
    )
}

/// When something that failed is tried again: a wait that doubles, at random between half of it and all,
/// so that nodes do not come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
    why: String,
}

impl Backoff {
    /// Why it is too early.
    fn waits(&self, now: Instant) -> Option<&str> {
        let waits = self.until.is_some_and(|until| now < until);
        waits.then_some(&*self.why)
    }

    /// Why it failed last.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, why: String, now: Instant) {
        let longest = RETRY_FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(RETRY_LONGEST);
        self.failures += 1;
        self.until = Some(now + longest.mul_f64(rand::random_range(0.5..=1.0)));
        self.why = why;
    }

    /// How long until it is tried again.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let target = Target::parse("redis://user:secret@127.0.0.1:7000/2").unwrap();
        assert_eq!(target.to_string(), "127.0.0.1:7000");
        assert!(!format!("{target:?}").contains("secret"));
        assert!(
            Target::parse("redis://127.0.0.1:1,redis://127.0.0.1:2")
                .unwrap()
                .is_cluster()
        );
        assert!(Target::parse("http://127.0.0.1/").is_err());
    }

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_starts_again_after_a_success() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let mut before = Duration::ZERO;
        for _ in 0..12 {
            backoff.failed("down".to_owned(), now);
            let left = backoff.left(now);
            assert!(left >= before / 2 && left <= RETRY_LONGEST, "{left:?}");
            before = left;
        }
        assert!(before >= RETRY_LONGEST / 2);
        assert_eq!(backoff.waits(now), Some("down"));
        backoff.succeeded();
        assert_eq!(backoff.waits(now), None);
    }
}
