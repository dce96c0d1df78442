//! What differs between kinds of coordinators.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_coordinator::Machine;
use tidelog_types::{PartitionError, TopicName};

/// A kind of coordinators: its machine, the topic that keeps its state, its records as bytes, and
/// who is told its effects.
pub trait Kind: Send + Sync + 'static {
    /// The machine of one partition.
    type Machine: Machine<Command: Send, Record: Send + Sync, Decision: Send + Sync, Effect: Send>
        + Send
        + Sync;
    /// What of the cluster its machines follow.
    type View: Send + Sync + 'static;
    /// Who asks a machine and is told its effects.
    type Audience: Audience<Self::Machine>;

    /// The topic that keeps the state.
    fn state_topic() -> TopicName;

    /// An empty machine. The view is at least as new as the leadership it is for.
    fn machine(&self, view: Arc<Self::View>) -> Self::Machine;

    /// Shows a machine a changed view.
    fn follow(machine: &mut Self::Machine, view: Arc<Self::View>);

    /// How many things a loaded machine coordinates, for the broker's log.
    fn coordinated_count(machine: &Self::Machine) -> usize;

    /// A record's key and value.
    fn encode(record: &<Self::Machine as Machine>::Record) -> (Bytes, Option<Bytes>);

    /// The record of a key and a value; `None` for a kind of record that only newer brokers know.
    fn decode(
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Option<<Self::Machine as Machine>::Record>, impl Display>;
}

/// Who asks one machine, and who is told its effects. Dropping it tells nobody anything.
pub trait Audience<M: Machine>: Default + Send + 'static {
    /// What is asked.
    type Request: Send + 'static;

    /// Takes a request in. Returns its command; `None` if the machine's state answered it.
    fn admit(&mut self, request: Self::Request, machine: &M) -> Option<M::Command>;

    /// Tells an effect. Returns it if its addressee does not read what it is told; the addressee is
    /// dropped then.
    fn tell(&mut self, effect: M::Effect) -> Result<(), M::Effect>;

    /// Answers a request that is not admitted any more.
    fn refuse(&mut self, request: Self::Request, why: &PartitionError);

    /// Tells everybody who waits that the machine serves no more: what they asked for may be done
    /// or not.
    fn end(self, why: &PartitionError);
}
