//! Cases N and S: nodes that share a Redis or a Redis Cluster, compared with a single node or a single master.

use std::io;
use std::net::SocketAddrV4;
use std::process;
use std::time::{Duration, Instant};

use crate::args::NODES;
use crate::client_group::ClientGroup;
use crate::cpu::CpuTime;
use crate::load::{DUPLICATE_GRACE, Load, Publisher, Until, WARM_UP_MESSAGES, run_load};
use crate::machine::Machine;
use crate::measurements::Bench;
use crate::redis_cluster;
use crate::redis_server::{RedisCounters, RedisServer};
use crate::servers::Server;
use crate::storage::{AckFigures, PublisherPlan, publish_all};

/// Nodes exchange their members once a second. After this time, nothing is left to exchange.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// The threads that each node has once. Each can reach the limit of a core before the node does. They publish to
/// Redis, receive from Redis, and deliver to clients. Older servers, as for `--against`, have another name for one.
const THREADS: [&[&str]; 3] = [
    &["broker"],
    &["redis-subscribe", "redis-listen"],
    &["broadcaster"],
];

/// The load before the clock starts. There may be many rooms.
const WARM_UP_LOAD: Load = Load::Outstanding(8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeSetup {
    OneWithMemory,
    OneWithRedis,
    ThreeWithRedis,
    /// Three nodes with a Redis Cluster of this many masters.
    ThreeWithMasters(usize),
}

/// How many clients there are, and in how many rooms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientLayout {
    /// A multiple of `rooms`.
    pub(crate) clients: usize,
    pub(crate) rooms: usize,
}

/// The figures of one measurement. Figures of Redis are NaN if the setup has none.
#[derive(Clone, Debug)]
pub(crate) struct NodeFigures {
    pub(crate) messages: f64,
    pub(crate) deliveries: f64,
    pub(crate) seconds: f64,
    pub(crate) generator_busy_percent: f64,
    pub(crate) cpu: CpuUse,
    pub(crate) redis: RedisCounters,
}

/// The figures of acknowledged publishes on one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeAckFigures {
    pub(crate) acks: AckFigures,
    /// CPU time of Redis per publish, in microseconds.
    pub(crate) redis_us: f64,
}

/// CPU time between two readings, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct CpuUse {
    pub(crate) nodes_us: Vec<f64>,
    // The time of one thread on the node where it uses most. NaN if no node has this thread.
    pub(crate) broker_us: f64,
    pub(crate) subscriber_us: f64,
    pub(crate) broadcaster_us: f64,
    // The time of all Redis servers, and of the one that uses most.
    pub(crate) redis_us: f64,
    pub(crate) busiest_redis_us: f64,
}

/// Running servers. Field order matters: the nodes are dropped before their Redis.
struct Nodes {
    nodes: Vec<Server>,
    redis: Vec<RedisServer>,
}

/// A reading of the CPU time of all servers.
struct CpuReading {
    nodes: Vec<CpuTime>,
    threads: Vec<[Option<Duration>; THREADS.len()]>,
    redis: Vec<CpuTime>,
}

impl NodeSetup {
    fn nodes(self) -> usize {
        match self {
            NodeSetup::OneWithMemory | NodeSetup::OneWithRedis => 1,
            NodeSetup::ThreeWithRedis | NodeSetup::ThreeWithMasters(_) => NODES,
        }
    }

    fn start_redis(self, machine: &Machine) -> io::Result<Vec<RedisServer>> {
        match self {
            NodeSetup::OneWithMemory => Ok(Vec::new()),
            NodeSetup::OneWithRedis | NodeSetup::ThreeWithRedis => {
                Ok(vec![RedisServer::start(machine)?])
            }
            NodeSetup::ThreeWithMasters(masters) => redis_cluster::start(masters, machine),
        }
    }
}

impl NodeFigures {
    pub(crate) fn nodes_us(&self) -> f64 {
        self.cpu.nodes_us.iter().sum()
    }

    /// Returns the mean CPU time of nodes that only relay, if all publishers are on the first node.
    pub(crate) fn relaying_us(&self) -> f64 {
        let relaying = &self.cpu.nodes_us[1..];
        relaying.iter().sum::<f64>() / relaying.len() as f64
    }
}

impl Bench {
    /// Measures messages that one client of each room publishes, with the rooms in turn.
    pub(crate) fn node_fanout(
        &self,
        setup: NodeSetup,
        layout: ClientLayout,
        load: Load,
    ) -> io::Result<NodeFigures> {
        let mut nodes = self.start_nodes(setup)?;
        let mut clients = nodes.connect(layout)?;
        let mut publisher = Publisher::new(&clients, layout.rooms)?;
        let warm_up = Until::Published(WARM_UP_MESSAGES.max(layout.rooms as u64));
        run_load(&mut clients, &mut publisher, WARM_UP_LOAD, warm_up)?;

        let duration = Duration::from_secs_f64(self.options.seconds());
        // Reading Redis' counters costs CPU time, so it happens outside the CPU readings.
        let counters_before = nodes.redis_counters()?;
        let (before, busy_before) = (nodes.read_cpu()?, CpuTime::of(process::id())?);
        let start = Instant::now();
        let until = Until::Time(start + duration);
        run_load(&mut clients, &mut publisher, load, until)?;
        let elapsed = start.elapsed().as_secs_f64();
        let busy = CpuTime::of(process::id())?.since(&busy_before);
        clients.read_for(DUPLICATE_GRACE)?;
        let cpu = nodes.read_cpu()?.since(&before);
        let redis = nodes.redis_counters()?.since(&counters_before);

        nodes.check_alive()?;
        clients.check_counts(publisher.published)?;
        Ok(NodeFigures {
            messages: publisher.published as f64,
            deliveries: clients.received() as f64,
            seconds: elapsed,
            generator_busy_percent: 100.0 * busy.as_secs_f64() / elapsed,
            cpu,
            redis,
        })
    }

    /// Measures clients that send and receive nothing.
    pub(crate) fn idle_nodes(
        &self,
        setup: NodeSetup,
        layout: ClientLayout,
    ) -> io::Result<NodeFigures> {
        let mut nodes = self.start_nodes(setup)?;
        let mut clients = nodes.connect(layout)?;
        clients.reset_counts();
        let counters_before = nodes.redis_counters()?;
        let (before, start) = (nodes.read_cpu()?, Instant::now());
        clients.read_for(Duration::from_secs_f64(self.options.seconds()))?;
        let (cpu, elapsed) = (nodes.read_cpu()?.since(&before), start.elapsed());
        let redis = nodes.redis_counters()?.since(&counters_before);
        nodes.check_alive()?;
        clients.check_counts(0)?;
        Ok(NodeFigures {
            messages: 0.0,
            deliveries: 0.0,
            seconds: elapsed.as_secs_f64(),
            generator_busy_percent: f64::NAN,
            cpu,
            redis,
        })
    }

    /// Measures publishers on one node, each alone in its room.
    pub(crate) fn node_acknowledged(
        &self,
        setup: NodeSetup,
        plan: PublisherPlan,
    ) -> io::Result<NodeAckFigures> {
        let mut nodes = self.start_nodes(setup)?;
        let address = nodes.nodes[0].address;
        let duration = Duration::from_secs_f64(self.options.seconds());
        let measured = publish_all(address, plan, duration, || nodes.read_cpu())?;
        let (latencies, [before, after]) = measured;
        nodes.check_alive()?;
        let cpu = after.since(&before);
        let node = Duration::from_secs_f64(cpu.nodes_us[0] / 1e6);
        Ok(NodeAckFigures {
            acks: AckFigures::new(&latencies, duration, node),
            redis_us: cpu.redis_us / latencies.len() as f64,
        })
    }

    fn start_nodes(&self, setup: NodeSetup) -> io::Result<Nodes> {
        let redis = setup.start_redis(&self.machine)?;
        let urls: Vec<String> = redis.iter().map(RedisServer::url).collect();
        let arguments = match &urls[..] {
            [] => Vec::new(),
            urls => vec!["--redis".to_owned(), urls.join(",")],
        };
        let nodes = (0..setup.nodes())
            .map(|_| self.start_wscast(&arguments))
            .collect::<io::Result<_>>()?;
        Ok(Nodes { nodes, redis })
    }
}

impl Nodes {
    /// Connects clients to all nodes in turn and waits until the nodes have exchanged their members.
    fn connect(&self, layout: ClientLayout) -> io::Result<ClientGroup> {
        let addresses: Vec<SocketAddrV4> = self.nodes.iter().map(|node| node.address).collect();
        let mut clients = ClientGroup::connect_spread(&addresses, layout.clients, layout.rooms)?;
        clients.read_for(SETTLE_TIME)?;
        Ok(clients)
    }

    fn read_cpu(&self) -> io::Result<CpuReading> {
        let threads = self.nodes.iter().map(|node| node.threads_cpu(THREADS));
        Ok(CpuReading {
            nodes: self
                .nodes
                .iter()
                .map(Server::cpu)
                .collect::<io::Result<_>>()?,
            threads: threads.collect::<io::Result<_>>()?,
            redis: self
                .redis
                .iter()
                .map(RedisServer::cpu)
                .collect::<io::Result<_>>()?,
        })
    }

    fn redis_counters(&self) -> io::Result<RedisCounters> {
        let counters = self.redis.iter().map(RedisServer::counters);
        let counters: Vec<RedisCounters> = counters.collect::<io::Result<_>>()?;
        let sum = counters.into_iter().reduce(|sum, one| sum.plus(&one));
        Ok(sum.unwrap_or(RedisCounters::NONE))
    }

    fn check_alive(&mut self) -> io::Result<()> {
        for node in &mut self.nodes {
            node.check_alive()?;
        }
        self.redis.iter_mut().try_for_each(RedisServer::check_alive)
    }
}

impl CpuReading {
    fn since(&self, earlier: &CpuReading) -> CpuUse {
        let micros = |now: &CpuTime, then: &CpuTime| now.since(then).as_secs_f64() * 1e6;
        let nodes = self.nodes.iter().zip(&earlier.nodes);
        let redis = self.redis.iter().zip(&earlier.redis);
        let redis: Vec<f64> = redis.map(|(now, then)| micros(now, then)).collect();
        let [broker_us, subscriber_us, broadcaster_us] = std::array::from_fn(|thread| {
            let nodes = self.threads.iter().zip(&earlier.threads);
            let times =
                nodes.filter_map(|(now, then)| Some(now[thread]?.saturating_sub(then[thread]?)));
            times
                .max()
                .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
        });
        CpuUse {
            nodes_us: nodes.map(|(now, then)| micros(now, then)).collect(),
            broker_us,
            subscriber_us,
            broadcaster_us,
            redis_us: redis
                .iter()
                .copied()
                .reduce(|a, b| a + b)
                .unwrap_or(f64::NAN),
            busiest_redis_us: redis.iter().copied().fold(f64::NAN, f64::max),
        }
    }
}
