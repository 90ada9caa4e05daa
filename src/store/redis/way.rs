//! A connection to one server of Redis: every wait has an end, and one that broke is made anew, later each
//! time it cannot be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Client, Cmd, Connection, ConnectionAddr, RedisError, ServerErrorKind, Value};

use super::answer::{Answer, LinkError, REDIS_TIMEOUT};
use super::backoff::Backoff;
use super::scripts;
use super::slots::{self, Address, Range};

/// Time for answers that should be there already, once that for all of them is over.
const GRACE: Duration = Duration::from_millis(50);

/// What is to be done with every new connection before it is used. It is told which slots are there.
pub(super) type Greeting =
    Arc<dyn Fn(&mut Talk<'_>, &[Range]) -> Result<(), LinkError> + Send + Sync>;

/// A connection that is made when it is needed.
pub(super) struct Way {
    client: Client,
    connection: Option<Connection>,
    retry: Backoff,
}

/// Commands and their answers, on a connection that stands.
pub(super) struct Talk<'a>(&'a mut Connection);

impl Way {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            connection: None,
            retry: Backoff::default(),
        }
    }

    pub(super) fn stands(&self) -> bool {
        self.connection.is_some()
    }

    /// Tries again as soon as it is needed.
    pub(super) fn wait_no_longer(&mut self) {
        self.retry.succeeded();
    }

    /// Makes the connection if there is none and it is time to try.
    pub(super) fn connect(
        &mut self,
        greeting: &Greeting,
        slots: &[Range],
    ) -> Result<(), LinkError> {
        if self.stands() {
            return Ok(());
        }
        if let Some(why) = self.retry.waits(Instant::now()) {
            return Err(LinkError::NotSent(why.to_owned()));
        }
        let made = connect_to(&self.client).map_err(|why| LinkError::NotSent(why.to_string()));
        let greeted = made.and_then(|mut connection| {
            greeting(&mut Talk(&mut connection), slots)?;
            Ok(connection)
        });
        match greeted {
            Ok(connection) => {
                self.retry.succeeded();
                self.connection = Some(connection);
                Ok(())
            }
            Err(why) => {
                self.retry.failed(why.to_string(), Instant::now());
                Err(LinkError::NotSent(why.to_string()))
            }
        }
    }

    /// Sends commands on the connection that stands; their answers must be [received](Self::receive).
    pub(super) fn send(&mut self, commands: &[&Cmd]) -> Result<(), LinkError> {
        let Some(connection) = &mut self.connection else {
            let why = self.retry.why();
            let why = if why.is_empty() { "not connected" } else { why };
            return Err(LinkError::NotSent(why.to_owned()));
        };
        let sent = send(connection, commands);
        sent.inspect_err(|_| self.connection = None)
    }

    /// The answers to what was sent, in order; what the server itself refuses is among these.
    pub(super) fn receive(&mut self, commands: &[&Cmd], deadline: Instant) -> Vec<Answer> {
        let Some(connection) = &mut self.connection else {
            let lost = LinkError::Unanswered("not connected".to_owned());
            return vec![Err(lost); commands.len()];
        };
        let mut answers = receive(connection, commands.len(), deadline);
        if let Err(why) = Talk(connection).run_unknown(commands, &mut answers) {
            log::debug!("scripts cannot be loaded: {why}");
            self.connection = None;
        }
        if answers.iter().any(Result::is_err) {
            self.connection = None;
        }
        if answers.iter().flatten().any(is_wrong_server) {
            self.connection = None;
            let why = "this server is not, or no longer, the one that is written to";
            self.retry.failed(why.to_owned(), Instant::now());
        }
        answers
    }

    /// Which servers have which slots, as this one knows it.
    pub(super) fn ask_for_slots(&mut self) -> Option<BTreeMap<Address, Vec<Range>>> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let commands = [&command];
        self.send(&commands).ok()?;
        let answers = self.receive(&commands, Instant::now() + REDIS_TIMEOUT);
        let host = match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "",
        };
        slots::understand(answers.into_iter().next()?.ok()?, host)
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
    fn run_unknown(&mut self, commands: &[&Cmd], answers: &mut [Answer]) -> Result<(), LinkError> {
        let is_unknown = |answer: &Answer| matches!(answer, Ok(Value::ServerError(why)) if why.kind() == Some(ServerErrorKind::NoScript));
        let unknown: Vec<usize> = (0..answers.len())
            .filter(|n| is_unknown(&answers[*n]))
            .collect();
        if unknown.is_empty() || answers.iter().any(Result::is_err) {
            return Ok(());
        }
        self.run(&scripts::load_all())?;
        let again: Vec<&Cmd> = unknown.iter().map(|n| commands[*n]).collect();
        send(self.0, &again)?;
        let deadline = Instant::now() + REDIS_TIMEOUT;
        for (n, answer) in unknown
            .into_iter()
            .zip(receive(self.0, again.len(), deadline))
        {
            answers[n] = answer;
        }
        Ok(())
    }

    /// Sends commands and gives their answers, in order.
    pub(super) fn run(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, LinkError> {
        send(self.0, &commands.iter().collect::<Vec<_>>())?;
        let deadline = Instant::now() + REDIS_TIMEOUT;
        receive(self.0, commands.len(), deadline)
            .into_iter()
            .collect()
    }
}

/// All are sent before the first answer is read.
fn send(connection: &mut Connection, commands: &[&Cmd]) -> Result<(), LinkError> {
    let mut packed = Vec::new();
    for command in commands {
        command.write_packed_command(&mut packed);
    }
    let sent = connection.send_packed_command(&packed);
    sent.map_err(|why| LinkError::Unanswered(why.to_string()))
}

/// So many answers. Each has a time-out of its own, and all together have one; what comes after the first that
/// did not come is none.
fn receive(connection: &mut Connection, count: usize, deadline: Instant) -> Vec<Answer> {
    let left = || {
        deadline
            .saturating_duration_since(Instant::now())
            .max(GRACE)
    };
    let until = Instant::now() + left();
    let unanswered = |why: RedisError| LinkError::Unanswered(why.to_string());
    let mut answers = Vec::with_capacity(count);
    let mut lost = connection
        .set_read_timeout(Some(left()))
        .map_err(unanswered)
        .err();
    while lost.is_none() && answers.len() < count {
        match connection.recv_response() {
            Ok(answer) => answers.push(Ok(answer)),
            Err(why) => lost = Some(unanswered(why)),
        }
        if Instant::now() > until {
            lost = lost.or(Some(LinkError::Unanswered("too slow".to_owned())));
        }
    }
    let lost = lost.unwrap_or_else(|| LinkError::Unanswered("no answer".to_owned()));
    answers.resize(count, Err(lost));
    answers
}

/// Whether another server than this one must be asked: it is only a replica now.
fn is_wrong_server(answer: &Value) -> bool {
    use ServerErrorKind::{MasterDown, ReadOnly};
    matches!(answer, Value::ServerError(why) if matches!(why.kind(), Some(MasterDown | ReadOnly)))
}
