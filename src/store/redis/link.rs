//! The way to Redis for commands: to one server, or to each of a cluster the commands about what it has. Servers
//! fail and come back each by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::{Client, Cmd, ConnectionAddr, RedisError, ServerErrorKind, Value};

use super::answer::{Answer, LinkError, REDIS_TIMEOUT, accepted};
use super::backoff::Backoff;
use super::slots::{self, Address, Range, SLOTS};
use super::way::{Greeting, Way};

/// Least time between two looks at what servers a cluster has.
const LEARN_INTERVAL: Duration = Duration::from_millis(200);

/// Where Redis is: one server, or a proxy that looks like one; or some servers of a Redis Cluster.
#[derive(Clone)]
pub(super) struct Target(Vec<Client>);

impl Target {
    /// From one address, or from several of a cluster with commas between them.
    pub(super) fn parse(url: &str) -> Result<Self, RedisError> {
        let addresses = url.split(',').map(str::trim);
        addresses
            .map(Client::open)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.0.len() > 1
    }

    /// Servers of which any can be listened to.
    pub(super) fn servers(&self) -> &[Client] {
        &self.0
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

/// Ways to the servers, made when they are needed.
pub(super) struct Link {
    target: Target,
    greeting: Greeting,
    servers: BTreeMap<Address, Server>,
    /// Whether keys may be on other servers than was learnt.
    is_stale: bool,
    learnt: Option<Instant>,
    learn: Backoff,
    /// Connections that this and all other links have made, and how many those were when this one looked.
    made: Arc<AtomicU64>,
    made_seen: u64,
}

struct Server {
    way: Way,
    slots: Vec<Range>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.target)
    }
}

impl Link {
    pub(super) fn new(target: Target, greeting: Greeting, made: Arc<AtomicU64>) -> Self {
        let all = |client: &Client| Server {
            way: Way::new(client.clone()),
            slots: vec![0..=SLOTS - 1],
        };
        let servers = match target.servers() {
            [only] => BTreeMap::from([(Address::default(), all(only))]),
            _ => BTreeMap::new(),
        };
        Self {
            is_stale: servers.is_empty(),
            target,
            greeting,
            servers,
            learnt: None,
            learn: Backoff::default(),
            made,
            made_seen: 0,
        }
    }

    /// Makes the connections there are not, so that what is learnt with them is known before commands are made
    /// up. Fails if there is none.
    pub(super) fn ready(&mut self) -> Result<(), LinkError> {
        if self.is_stale {
            self.learn_servers();
        }
        let made = self.made.load(Ordering::Relaxed);
        let others_made = std::mem::replace(&mut self.made_seen, made) != made;
        let mut failed = Err(LinkError::NotSent(self.learn.why().to_owned()));
        for Server { way, slots } in self.servers.values_mut() {
            if way.stands() {
                failed = Ok(());
                continue;
            }
            if others_made {
                // Where another link came through, this one need not wait.
                way.wait_no_longer();
            }
            if let Err(why) = way.connect(&self.greeting, slots) {
                self.is_stale = self.target.is_cluster();
                failed = failed.or(Err(why));
            } else {
                self.made.fetch_add(1, Ordering::Relaxed);
                failed = Ok(());
            }
        }
        failed
    }

    /// Sends commands on the connections that stand, all before the first answer is read; gives an answer to each,
    /// in order. Those for one server reach it in their order.
    pub(super) fn run_ready(&mut self, commands: &[Cmd]) -> Vec<Answer> {
        let nowhere = || Err(LinkError::NotSent("no server has this".to_owned()));
        let mut answers: Vec<Answer> = commands.iter().map(|_| nowhere()).collect();
        let mut waiting = Vec::new();
        for (address, places) in self.divide(commands) {
            let theirs: Vec<&Cmd> = places.iter().map(|n| &commands[*n]).collect();
            let Some(server) = self.servers.get_mut(&address) else {
                continue;
            };
            match server.way.send(&theirs) {
                Ok(()) => waiting.push((address, places, theirs)),
                Err(why) => places
                    .into_iter()
                    .for_each(|n| answers[n] = Err(why.clone())),
            }
        }
        let deadline = Instant::now() + REDIS_TIMEOUT;
        for (address, places, theirs) in waiting {
            let Some(server) = self.servers.get_mut(&address) else {
                continue;
            };
            let received = server.way.receive(&theirs, deadline);
            for (n, answer) in places.into_iter().zip(received) {
                answers[n] = answer;
            }
        }
        if self.target.is_cluster() && answers.iter().any(has_moved) {
            self.is_stale = true;
        }
        answers
    }

    /// The same with connections that are made if need be. It must all be answered.
    pub(super) fn run(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, LinkError> {
        self.ready()?;
        self.run_ready(commands).into_iter().collect()
    }

    /// The same for one command, whose refusal is an error.
    pub(super) fn run_one(&mut self, command: Cmd) -> Answer {
        let mut answers = self.run(&[command])?;
        let none = || LinkError::Unanswered("no answer".to_owned());
        accepted(answers.pop().ok_or_else(none)?)
    }

    /// Finds out whether every server answers.
    pub(super) fn check(&mut self) -> Result<(), LinkError> {
        self.ready()?;
        let ping = redis::cmd("PING");
        let ping = [&ping];
        for server in self.servers.values_mut() {
            server.way.send(&ping)?;
            let answers = server.way.receive(&ping, Instant::now() + REDIS_TIMEOUT);
            answers
                .into_iter()
                .try_for_each(|answer| accepted(answer?).map(drop))?;
        }
        Ok(())
    }

    /// Which commands go to which server.
    fn divide(&self, commands: &[Cmd]) -> BTreeMap<Address, Vec<usize>> {
        let mut divided = BTreeMap::<Address, Vec<usize>>::new();
        for (n, command) in commands.iter().enumerate() {
            let slot = slots::slot_of(command);
            let has = |server: &Server| match slot {
                Some(slot) => server.slots.iter().any(|range| range.contains(&slot)),
                None => server.way.stands(),
            };
            let mut servers = self.servers.iter();
            if let Some((address, _)) = servers.find(|(_, server)| has(server)) {
                divided.entry(address.clone()).or_default().push(n);
            }
        }
        divided
    }

    /// Asks the cluster which servers it has: first those that are connected to, as they answer soon. Ways to
    /// those that were known stay.
    fn learn_servers(&mut self) {
        let now = Instant::now();
        let is_fresh = |learnt| now.saturating_duration_since(learnt) < LEARN_INTERVAL;
        if self.learnt.is_some_and(is_fresh) || self.learn.waits(now).is_some() {
            return;
        }
        let connected = self
            .servers
            .values_mut()
            .filter(|server| server.way.stands());
        let mut learnt = None;
        for server in connected {
            learnt = learnt.or_else(|| server.way.ask_for_slots());
        }
        let mut why = "no server tells of the cluster".to_owned();
        for client in self.target.servers() {
            if learnt.is_some() {
                break;
            }
            let mut way = Way::new(client.clone());
            let nothing: Greeting = Arc::new(|_, _| Ok(()));
            match way.connect(&nothing, &[]) {
                Ok(()) => learnt = way.ask_for_slots(),
                Err(failed) => why = failed.to_string(),
            }
        }
        let Some(learnt) = learnt else {
            return self.learn.failed(why, Instant::now());
        };
        self.take_servers(learnt);
    }

    fn take_servers(&mut self, learnt: BTreeMap<Address, Vec<Range>>) {
        let mut before = std::mem::take(&mut self.servers);
        for (address, slots) in learnt {
            let known = before.remove(&address);
            // One that has other slots is greeted anew: what is known of them is learnt there.
            let known = known.filter(|server| server.slots == slots);
            let way = known.map(|server| server.way);
            let Some(way) = way.or_else(|| Some(Way::new(self.client(&address)?))) else {
                continue;
            };
            self.servers.insert(address, Server { way, slots });
        }
        self.is_stale = false;
        self.learnt = Some(Instant::now());
        self.learn.succeeded();
    }

    /// How to connect to a server of the cluster: as to that which was given, at another address.
    fn client(&self, (host, port): &Address) -> Option<Client> {
        let given = self.target.servers().first()?.get_connection_info().clone();
        let address = match given.addr().clone() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure,
                tls_params,
            },
            _ => ConnectionAddr::Tcp(host.clone(), *port),
        };
        Client::open(given.set_addr(address)).ok()
    }
}

/// Whether it must be asked for elsewhere.
fn has_moved(answer: &Answer) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, MasterDown, Moved, ReadOnly};
    match answer {
        Err(_) => true,
        Ok(Value::ServerError(why)) => matches!(
            why.kind(),
            Some(Ask | ClusterDown | MasterDown | Moved | ReadOnly)
        ),
        Ok(_) => false,
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
}
