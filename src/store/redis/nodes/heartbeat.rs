//! The heartbeat thread: reports once a second that this node lives and which of its rooms have changed, and keeps
//! the roster of the other nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redis::{Cmd, FromRedisValue, Value};

use crate::protocol::CloseCode;
use crate::rooms::{ClientSelector, LocalMembers, UserCount};
use crate::store::delivery::Delivery;

use super::super::client::{CommandError, RedisClient, accepted};
use super::super::names::NodeName;
use super::super::node_state::NodeState;
use super::super::scripts;
use super::report::{NodeReport, split_rooms};
use super::revocations::read_revocations;
use super::roster::Roster;
use super::user_roster;

/// Users in one report. A report of as many rooms is larger.
const USERS_MAX: usize = 1000;
/// Time between two heartbeats.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a heartbeat after which a node counts as dead and its members as gone.
const NODE_LIFETIME: Duration = Duration::from_secs(10);

/// An event that the subscriber thread passes on.
#[derive(Debug)]
pub(crate) enum RosterEvent {
    /// A report of a node.
    Report(Vec<u8>),
    /// Reports may have been missed.
    Missed,
}

/// Returns the commands that publish this node's clock to its subscribers.
type Echoes = Box<dyn Fn() -> Vec<Cmd> + Send>;

/// The state of the heartbeat thread.
pub(crate) struct Heartbeat {
    state: Arc<NodeState>,
    delivery: Arc<dyn Delivery>,
    events: Receiver<RosterEvent>,
    echoes: Echoes,
    client: RedisClient,
    roster: Roster,
    /// True if the reports of all nodes are to be read from Redis, because some may have been missed.
    must_read_all: bool,
    /// True if the next report must have all rooms, because earlier reports may be lost.
    must_report_all: bool,
    /// Until then no node counts as dead, because Redis may not have received heartbeats.
    grace_until: Instant,
}

impl Heartbeat {
    pub(crate) fn new(
        state: Arc<NodeState>,
        delivery: Arc<dyn Delivery>,
        events: Receiver<RosterEvent>,
        echoes: Echoes,
    ) -> Self {
        Self {
            client: state.client(),
            state,
            delivery,
            events,
            echoes,
            roster: Roster::default(),
            must_read_all: false,
            must_report_all: true,
            grace_until: Instant::now(),
        }
    }

    /// Runs until this node leaves or the process ends.
    pub(crate) fn run(mut self) {
        let mut heartbeat_at = Instant::now();
        while !self.state.is_leaving() {
            match self.events.recv_deadline(heartbeat_at) {
                Ok(RosterEvent::Report(report)) => self.receive(&report),
                Ok(RosterEvent::Missed) => self.must_read_all = true,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if self.send_heartbeat().is_err() {
                        self.must_report_all = true;
                        self.grace_until = Instant::now() + NODE_LIFETIME;
                    }
                    heartbeat_at = Instant::now() + HEARTBEAT_INTERVAL;
                }
            }
            for (room, members) in self.roster.take_changed() {
                self.delivery.set_remote_members(room, members);
            }
            for user in self.roster.take_changed_users() {
                self.delivery.set_remote_user(user);
            }
        }
    }

    fn receive(&mut self, report: &[u8]) {
        let Ok(report) = serde_json::from_slice::<NodeReport>(report) else {
            log::debug!("invalid report of {} bytes", report.len());
            return;
        };
        if report.node == self.state.names.node {
            return;
        }
        // Reads an unknown node's earlier reports from Redis. If that fails, the next heartbeat reads them.
        let needs_earlier_reports =
            !self.roster.knows(&report.node) && !report.is_leaving && !report.is_complete;
        if !needs_earlier_reports || self.read_reports_of(&report.node).is_ok() {
            self.roster.apply(report);
        }
    }

    /// Reports this node's changes and learns which nodes are alive.
    fn send_heartbeat(&mut self) -> Result<(), CommandError> {
        let busy = || CommandError::NotExecuted("the broadcaster is busy".to_owned());
        let changed = self.delivery.changed_rooms(self.must_report_all);
        let changed = changed.ok_or_else(busy)?;
        let users = self.delivery.changed_users(self.must_report_all);
        let users = users.ok_or_else(busy)?;
        let names = &self.state.names;
        let mut commands = (self.echoes)();
        let echoes = commands.len();
        if self.must_report_all {
            let mut forget = redis::cmd("DEL");
            forget.arg(names.node_rooms_key(&names.node));
            commands.push(forget);
        }
        let before_calls = commands.len();
        let all = self.must_report_all;
        commands.extend(heartbeat_calls(&self.state, &changed, &users, all));
        self.client.connect()?;
        let replies = self.client.run_connected(&commands);
        // An echo to a server that is down fails. Its subscriber notices.
        let replies = replies.into_iter().skip(echoes);
        let replies = replies.map(|reply| accepted(reply?));
        let replies: Result<Vec<Value>, CommandError> = replies.collect();
        let of_calls = replies?.into_iter().skip(before_calls - echoes);
        let of_calls = of_calls.map(<(u8, Vec<NodeName>, usize)>::from_redis_value);
        let mut of_calls: Vec<_> = of_calls
            .collect::<Result<_, _>>()
            .map_err(|why| CommandError::NotExecuted(why.to_string()))?;
        let was_unknown = of_calls.iter().any(|(was_unknown, ..)| *was_unknown == 1);
        let (_, live, unsharded) = of_calls.pop().unwrap_or_default();
        // If Redis does not know this node any more, it may have lost the reports of all nodes.
        self.must_report_all = was_unknown && !self.must_report_all;
        if self.must_report_all {
            self.grace_until = Instant::now() + NODE_LIFETIME;
        }
        self.state.nodes.store(live.len(), Ordering::Relaxed);
        self.state.relay.observe(unsharded > 0);
        for node in &live {
            let is_current = self.roster.knows(node) && !self.must_read_all;
            if *node != self.state.names.node && !is_current {
                self.read_reports_of(node)?;
            }
        }
        if self.must_read_all {
            self.read_revocations()?;
        }
        self.must_read_all = false;
        if Instant::now() >= self.grace_until {
            self.roster.retain_nodes(&live);
        }
        Ok(())
    }

    /// Learns of the users that were revoked while messages of other nodes were missed.
    fn read_revocations(&mut self) -> Result<(), CommandError> {
        for user in read_revocations(&self.state, &mut self.client)? {
            let clients = ClientSelector::User(user);
            self.delivery
                .close_clients(clients, CloseCode::Unauthorized);
        }
        Ok(())
    }

    /// Reads the last report of each of a node's rooms from Redis.
    fn read_reports_of(&mut self, node: &str) -> Result<(), CommandError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.state.names.node_rooms_key(node));
        let reply = self.client.run_one(command)?;
        let fields = HashMap::<String, String>::from_redis_value(reply);
        let mut rooms = fields.unwrap_or_default();
        let users = user_roster::take_users(&mut rooms);
        let parse = |(room, members): (String, String)| {
            let members = serde_json::from_str(&members).ok()?;
            Some((room, members))
        };
        self.roster.apply(NodeReport {
            node: node.to_owned(),
            is_leaving: false,
            is_complete: true,
            rooms: rooms.into_iter().filter_map(parse).collect(),
            users,
        });
        Ok(())
    }
}

/// Returns the calls of the heartbeat script that report these rooms and users: one call even if there are none.
fn heartbeat_calls(
    state: &NodeState,
    rooms: &[LocalMembers],
    users: &[UserCount],
    is_complete: bool,
) -> Vec<Cmd> {
    let node = &state.names.node;
    // Only the first report replaces earlier ones.
    let mut replaces = is_complete;
    let of_rooms = split_rooms(rooms)
        .into_iter()
        .map(|rooms| NodeReport::new(node, rooms, std::mem::take(&mut replaces)));
    let of_users = users.chunks(USERS_MAX);
    let of_users = of_users.map(|users| NodeReport::of_users(node, users));
    let reports = of_rooms.chain(of_users);
    reports
        .map(|report| heartbeat_call(state, &report))
        .collect()
}

fn heartbeat_call(state: &NodeState, report: &NodeReport) -> Cmd {
    let names = &state.names;
    let is_empty = report.rooms.is_empty() && report.users.is_empty();
    let message = if is_empty && !report.is_complete {
        String::new()
    } else {
        report.to_json()
    };
    let keys = [
        names.nodes_key(),
        names.node_rooms_key(&names.node),
        names.sharded_nodes_key(),
    ];
    let sharded_channel = match state.relay.is_possible() {
        true => names.sharded_report_channel(),
        false => String::new(),
    };
    let mut call = scripts::HEARTBEAT.call(&keys);
    call.arg(&names.node)
        .arg(NODE_LIFETIME.as_millis() as u64)
        .arg(names.report_channel())
        .arg(message)
        .arg(state.steady_now())
        .arg(sharded_channel)
        .arg(state.relay.channels().word());
    for (room, members) in &report.rooms {
        let members = match members.0 {
            0 => String::new(),
            _ => serde_json::to_string(members).unwrap_or_default(),
        };
        call.arg(room).arg(members);
    }
    for (user, clients) in &report.users {
        let clients = match clients {
            0 => String::new(),
            clients => clients.to_string(),
        };
        call.arg(user_roster::field(user)).arg(clients);
    }
    call
}

/// Returns the commands with which a node leaves, so that the others do not wait until it counts as dead.
pub(crate) fn leave_commands(state: &NodeState) -> Vec<Cmd> {
    let names = &state.names;
    let mut forget_rooms = redis::cmd("DEL");
    forget_rooms.arg(names.node_rooms_key(&names.node));
    let mut forget_node = redis::cmd("ZREM");
    forget_node.arg(names.nodes_key()).arg(&names.node);
    let mut commands = vec![forget_rooms, forget_node];
    commands.extend(state.publish_to_nodes(
        names.report_channel(),
        names.sharded_report_channel(),
        &NodeReport::leaving(&names.node).to_json(),
    ));
    commands
}
