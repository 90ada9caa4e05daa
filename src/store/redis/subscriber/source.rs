//! The servers from which a subscriber receives messages.

use super::super::client::{Address, SlotRange};
use super::super::names::Names;

/// The servers from which a subscriber receives messages.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RelaySource {
    /// Any server, because all of them relay all messages.
    AnyServer,
    /// A server of a cluster, through the sharded channels of its slots.
    Shard(Address),
}

/// The channels of a subscriber that belong to no room.
#[derive(Debug)]
pub(super) struct NodeChannels {
    pub(super) report: String,
    pub(super) close: String,
}

impl RelaySource {
    /// The channel by which a subscriber is woken, if its server has these slots.
    pub(super) fn echo_channel(&self, names: &Names, slots: &[SlotRange]) -> String {
        match self {
            Self::AnyServer => names.echo_channel(),
            Self::Shard(_) => names.sharded_echo_channel(slots),
        }
    }

    /// The channels of messages to all nodes.
    pub(super) fn node_channels(&self, names: &Names) -> NodeChannels {
        match self {
            Self::AnyServer => NodeChannels {
                report: names.report_channel(),
                close: names.close_channel(),
            },
            Self::Shard(_) => NodeChannels {
                report: names.sharded_report_channel(),
                close: names.sharded_close_channel(),
            },
        }
    }
}
